"""What a reader of the terminal sees: nothing cut, nothing averaged that cannot be, nothing left unsaid."""

import json

import pytest
import torch
import transformers as hf
from typer.testing import CliRunner

import weightscope
from tests.factories import write_checkpoint, write_gpt2
from tests.families.made_up import llama, llama_config
from weightscope.cli.app import app
from weightscope.cli.render_inspection import in_lines, together
from weightscope.errors import WeightscopeError
from weightscope.families.matrix import GROUP_ORDER
from weightscope.sweep.memory import _at_least, _at_most, parse_memory


@pytest.fixture(autouse=True)
def _as_always(monkeypatch):
    """Weights of one draw, and the width of no terminal."""
    torch.manual_seed(0)
    monkeypatch.setenv("COLUMNS", "100")


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def run_failing(*arguments):
    with pytest.raises(WeightscopeError) as caught:
        run(*arguments)
    return caught.value


def lines_of(done):
    return [line.rstrip() for line in done.stdout.splitlines()]


def row(done, group):
    """The cells of a group's line in the table."""
    return next(line.split() for line in lines_of(done) if line.split()[:1] == [group])


def convolutions(folder):
    tensors = {f"stages.{n}.conv.weight": torch.randn(4 * (n + 1), 3, 3, 3) for n in range(3)}
    return write_checkpoint(folder, tensors)


def latent(folder):
    """The names of DeepSeek: latent attention, a dense layer, experts of another width."""
    shapes = {
        "self_attn.q_a_proj": (6, 16), "self_attn.q_b_proj": (32, 6), "self_attn.o_proj": (16, 16),
        "self_attn.kv_a_proj_with_mqa": (8, 16), "self_attn.kv_b_proj": (32, 4),
    }  # fmt: skip
    tensors = {"model.embed_tokens.weight": torch.randn(20, 16)}
    for layer in range(3):
        here = dict(shapes)
        places = ["mlp."] if layer == 0 else ["mlp.shared_experts.", "mlp.experts.0.", "mlp.experts.1."]
        for place in places:
            width = 40 if layer == 0 else 10
            here |= {f"{place}{leaf}_proj": (width, 16) for leaf in ("up", "gate")}
            here[f"{place}down_proj"] = (16, width)
        if layer:
            here["mlp.gate"] = (2, 16)
        tensors |= {f"model.layers.{layer}.{n}.weight": torch.randn(s) for n, s in here.items()}
    config = {
        "model_type": "deepseek_v3", "num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 16,
        "kv_lora_rank": 4, "q_lora_rank": 6, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 4,
        "n_routed_experts": 2, "num_nextn_predict_layers": 0, "intermediate_size": 40,
        "moe_intermediate_size": 10,
    }  # fmt: skip
    return write_checkpoint(folder, tensors, config)


def two_stacks(folder):
    return write_checkpoint(folder, torch.nn.Transformer(16, 2, 3, 2, 24, batch_first=True).state_dict())


def test_a_checkpoint_of_convolutions_says_why_there_is_nothing(tmp_path):
    done = run("analyze", convolutions(tmp_path / "m"), "--out", tmp_path / "out")
    text = " ".join(done.stdout.split())
    assert "No matrix of attention or feed-forward was recognised" in text
    assert "There are 3 tensors of group conv. --groups all analyses them." in text
    assert "No plots: they show attention and feed-forward by layer" in text


def test_why_there_are_no_plots_is_said_only_where_they_were_wanted(tmp_path):
    folder = convolutions(tmp_path / "m")
    out = ("--groups", "all", "--out", tmp_path / "out")
    assert "No plots: " in run("analyze", folder, *out).stdout
    assert "No plots" not in run("analyze", folder, *out, "--no-plots").stdout
    assert "--out DIR saves tables.\n" in run("analyze", folder, "--groups", "all").stdout
    assert "No plots" not in run("analyze", write_gpt2(tmp_path / "g"), *out).stdout


def test_a_selection_that_fits_nothing_says_what_there_is(tmp_path):
    done = run("analyze", write_gpt2(tmp_path), "--groups", "G", "--layers", "0")
    assert "No matrix belongs to the selected groups and layers. There are " in done.stdout
    assert "1 tensor of group embedding" in done.stdout


def test_a_group_that_is_not_there_is_said_to_be_missing(tmp_path):
    folder = write_gpt2(tmp_path)
    done = run("analyze", folder, "--groups", "conv,G")
    assert "This checkpoint has no matrix of group G or conv. There are " in done.stdout
    assert "1 tensor of group embedding" in " ".join(done.stdout.split())
    done = run("analyze", folder, "--groups", "conv,M1,G")
    note = (
        "There is no matrix of groups G and conv, which were asked for: there are Q, K, V, O, QKV, M1, M2, "
    )
    assert f"note: {note}" in done.stderr
    assert any(
        said.startswith(note) for said in weightscope.analyze(folder, groups="conv,M1,G").summary["notes"]
    )
    for groups in ("all", "Q,M1", "conv"):
        assert "asked for" not in run("analyze", folder, "--groups", groups).stderr
    assert "asked for" not in run("analyze", folder).stderr


@pytest.mark.parametrize(
    ("given", "meant"), [("q,k", "Q"), ("KK", "K"), ("qkv", "QKV"), ("m1", "M1"), ("convs", "conv")]
)
def test_a_group_is_answered_with_the_nearest(given, meant):
    assert f"(did you mean '{meant}'?)" in str(run_failing("analyze", "demo", "--groups", given))


def test_norm_preservation_of_a_selection_is_nothing_of_the_model(tmp_path):
    folder = write_gpt2(tmp_path)
    for groups, left_out in (("Q", "QKV, M1 and M2"), ("QKV,M1", "M2")):
        done = run("analyze", folder, "--groups", groups)
        assert f"norm preservation: needs QKV, M1 and M2 (not selected: {left_out})" in lines_of(done)
        assert "no layer has" not in done.stdout
    experts = write_checkpoint(
        tmp_path / "m", {f"h.{n}.mlp.up_proj.weight": torch.randn(4, 3) for n in range(2)}
    )
    assert "norm preservation: no layer has all of QKV, M1 and M2" in lines_of(run("analyze", experts))


def test_what_is_skipped_without_harm_is_called_by_its_kind(tmp_path):
    model = hf.GptOssForCausalLM(
        hf.GptOssConfig(
            vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
            head_dim=8, num_local_experts=2, num_experts_per_tok=1, intermediate_size=12,
        )
    )  # fmt: skip
    model.save_pretrained(tmp_path / "m")
    done = run("analyze", tmp_path / "m")
    assert "; 4 skipped (4 of them biases)" in done.stdout, done.stdout
    assert "skipped (2 of them buffers)" in run("analyze", write_gpt2(tmp_path / "g")).stdout


def test_no_mean_over_matrices_of_several_shapes(tmp_path):
    done = run("analyze", convolutions(tmp_path), "--groups", "all")
    table = weightscope.analyze(tmp_path, groups="all").table
    cells = row(done, "conv")
    assert cells[:3] == ["conv", "(3", "matrices)"]
    # The layers, and of each quantity the two ends and nothing else.
    assert len(cells) == 3 + 1 + 4
    ends = [float(end) for end in cells[4].split("–")]
    assert ends == pytest.approx([table["stable_rank"].min(), table["stable_rank"].max()], rel=5e-3)
    ends = [float(end) for end in cells[5].split("–")]
    gaussian = table["stable_rank_gaussian"]
    assert ends == pytest.approx([gaussian.min(), gaussian.max()], rel=5e-3)
    assert "no mean where the matrices of a row differ in shape" in done.stdout


def test_matrices_of_one_shape_have_a_mean(tmp_path):
    done = run("analyze", write_gpt2(tmp_path, layers=3))
    assert len(row(done, "M1")) == 2 + 2 + 1 + 2 + 2
    assert "no mean" not in done.stdout


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ("all", "over all matrices of QKV, O, M1 and M2 (Q, K and V are in QKV already):"),
        ("Q,QKV", "over all matrices of QKV (Q is in QKV already):"),
        ("QKV,M2", "over all matrices of QKV and M2:"),
        ("Q,K", "over all matrices of Q and K:"),
    ],
)
def test_what_the_mean_over_all_is_over(tmp_path, groups, said):
    assert said in lines_of(run("analyze", write_gpt2(tmp_path), "--groups", groups))


def test_cross_attention_counts_its_parts(tmp_path):
    done = run("analyze", two_stacks(tmp_path))
    assert "over all matrices of QKV, O, M1 and M2, and of Q, K and V where there is no QKV:" in done.stdout


def test_latent_attention_is_in_the_order_of_the_computation_and_not_in_all(tmp_path):
    done = run("analyze", latent(tmp_path))
    first = [line.split()[0] for line in lines_of(done) if line]
    groups = [word for word in first if word in GROUP_ORDER]
    assert groups[:7] == ["Q_A", "Q_B", "KV_A", "K_R", "K_B", "V_B", "O"]
    assert "not counted there: Q_A, Q_B, KV_A, K_R, K_B and V_B" in done.stdout
    table = weightscope.analyze(tmp_path).table
    assert list(dict.fromkeys(table["group"]))[:7] == groups[:7]
    listed = [line.split() for line in run("families").stdout.splitlines()]
    assert next(line[1:9] for line in listed if line[0] == "deepseek_v3") == [*groups[:6], "Q", "O"]
    assert "not counted" not in run("analyze", tmp_path, "--groups", "O,M1").stdout


@pytest.mark.parametrize("write", [two_stacks, latent, convolutions], ids=lambda write: write.__name__)
@pytest.mark.parametrize("command", ["analyze", "inspect"])
def test_every_line_fits_80_columns(tmp_path, monkeypatch, write, command):
    monkeypatch.setenv("COLUMNS", "80")
    more = ("--groups", "all") if command == "analyze" else ()
    done = run(command, write(tmp_path / "m"), *more)
    assert max(len(line) for line in lines_of(done)[1:]) <= 80
    assert "…" not in done.stdout


def test_a_wide_terminal_shows_the_range_of_every_quantity(tmp_path, monkeypatch):
    folder = two_stacks(tmp_path)
    printed = {}
    for columns in ("80", "120"):
        monkeypatch.setenv("COLUMNS", columns)
        printed[columns] = run("analyze", folder)
    first = {columns: lines_of(done) for columns, done in printed.items()}
    narrow, wide = (next(line for line in first[columns] if "encoder self Q " in line) for columns in printed)
    assert (narrow.count("–"), wide.count("–")) == (1, 3)
    assert "in a wider terminal" in printed["80"].stdout
    assert "in a wider terminal" not in printed["120"].stdout


def test_the_time_of_the_plots_is_apart(tmp_path):
    done = run("analyze", write_gpt2(tmp_path / "m"), "--out", tmp_path / "out")
    line = next(line for line in lines_of(done) if " read, " in line)
    seconds = json.loads((tmp_path / "out" / "provenance.json").read_text())["seconds"]
    assert line.endswith(f"tables and plots written in {seconds['write']:.2f} s")
    assert f"read, {seconds['total'] - seconds['write']:.2f} s on cpu" in line
    assert "written" not in next(line for line in lines_of(run("analyze", "demo")) if " read, " in line)


def test_one_is_no_plural(tmp_path):
    folder = write_checkpoint(tmp_path, {"h.0.mlp.c_fc.weight": torch.randn(4, 8), "x": torch.randn(2, 3)})
    assert (
        "1 of 1 selected matrix analysed; 1 tensor not selected; 0 skipped" in run("analyze", folder).stdout
    )
    assert "1 matrix from 1 tensor, " in run("analyze", folder, "--dry-run").stdout
    text = run("families", "draft", folder).stdout
    assert "1 tensors" not in text


def test_inspect_names_the_stacks_in_the_order_of_the_table(tmp_path):
    folder = two_stacks(tmp_path)
    assert lines_of(run("inspect", folder))[1].split() == ["encoder", "decoder"]
    document = json.loads(run("inspect", folder, "--json").stdout)
    assert [stack["stack"] for stack in document["stacks"]] == ["encoder", "decoder"]
    assert document["layers"] == 2  # the family's own stack, the decoder


def test_inspect_shows_the_size_of_a_head(tmp_path):
    folder = write_checkpoint(tmp_path / "m", llama(0, 1), llama_config(2))
    assert "head dimension   2" in lines_of(run("inspect", folder))
    assert json.loads(run("inspect", folder, "--json").stdout)["head_dimension"] == 2
    # nope and rope together, whatever the config calls its head_dim
    assert "head dimension       8" in lines_of(run("inspect", latent(tmp_path / "d")))


def test_inspect_breaks_names_at_their_dots_and_says_a_stacked_one_once(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    prefix = "a_long_wrapper.of_the_model.model."
    folder = write_checkpoint(tmp_path, llama(0, 1, prefix=prefix))
    done = run("inspect", folder)
    assert "self_attn.{q,k,v}_proj.weight" in done.stdout
    words = {word for name in llama(0, prefix=prefix) for word in name.split(".")} | {"{q,k,v}_proj", "*"}
    for line in lines_of(done):
        for piece in line.split():
            if "." in piece or piece.startswith(("self_attn", "weight")):
                assert set(piece.strip(".").split(".")) <= words, piece


def test_inspect_prints_a_row_for_each_name(tmp_path):
    state = torch.nn.LSTM(32, 64, 2, bidirectional=True).state_dict()
    done = run("inspect", write_checkpoint(tmp_path, state))
    cells = {line.split()[-1]: line.split()[-3:-1] for line in lines_of(done) if "weight_" in line}
    assert cells == {name: ["1", "×".join(map(str, t.shape))] for name, t in state.items() if t.dim() == 2}


def test_inspect_counts_the_names_that_it_leaves_out(tmp_path):
    state = {f"w{chr(97 + n)}": torch.randn(4, n + 1) for n in range(20)}
    done = run("inspect", write_checkpoint(tmp_path, state))
    assert lines_of(done)[-2].split() == ["8", "…", "8", "more", "names", "(--json)"]


def test_inspect_says_how_wide_experts_are(tmp_path):
    lines = lines_of(run("inspect", latent(tmp_path / "d")))
    assert {"FF dimension         40", "expert FF dimension  10"} <= set(lines)
    assert "expert" not in run("inspect", write_gpt2(tmp_path / "g")).stdout


def test_names_together_and_in_lines():
    assert together("a.q.w+a.k.w") == "a.{q,k}.w"
    assert together("a.query.w+a.key.w+a.value.w") == "a.{query,key,value}.w"
    assert together("a.w") == "a.w"
    assert together("a.w+a.w.b") == "a.w+a.w.b"  # nothing would stand in the braces
    assert in_lines("one", 24) == ["one"]
    assert in_lines("a.much.longer.name.than.that", 12) == ["a.much.", "  longer.", "  name.than.", "  that"]
    for room in range(24, 60):
        found = in_lines("model.layers.*.self_attn.{q,k,v}_proj.weight", room)
        assert max(map(len, found)) <= room
        assert "".join(line.strip() for line in found) == "model.layers.*.self_attn.{q,k,v}_proj.weight"


def test_families_lists_what_a_table_has_rows_of(tmp_path):
    listed = {line.split()[0]: line.split()[1:] for line in run("families").stdout.splitlines()}
    for name, folder in (("gpt2", write_gpt2(tmp_path / "g")), ("deepseek_v3", latent(tmp_path / "d"))):
        table = weightscope.analyze(folder, groups="all").table
        assert set(table["group"]) <= set(listed[name]), name
    assert listed["llama"][:5] == listed["phi3"][:5] == listed["gpt2"][:5] == ["Q", "K", "V", "O", "QKV"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("llamaa", "did you mean 'llama'"),
        ("GPT-2", "did you mean 'gpt2'"),
        ("mixtrall", "did you mean 'mixtral'"),
        ("kimi_k2", "the model_type 'kimi_k2' is read by 'deepseek_v3'"),
        ("zzzzz", "None of the "),
    ],
)
def test_a_family_that_is_not_there(name, said):
    with pytest.raises(weightscope.WeightscopeError) as caught:
        weightscope.analyze("demo", family=name)
    assert said in str(caught.value)
    assert "'weightscope families' lists them all" in str(caught.value)


def test_a_refusal_for_memory_prints_two_numbers(tmp_path):
    needed = 98 * 2**20
    for limit, printed in (("1", "1 byte."), ("96MiB", "96 MiB."), (needed, "98 MiB.")):
        with pytest.raises(weightscope.WeightscopeError) as caught:
            weightscope.analyze("demo", memory=limit)
        assert str(caught.value).startswith(f"The sweep was to take at most {printed} It needs 99 MiB: ")
        assert "Pass --memory 99MiB if" in str(caught.value)
    assert len(weightscope.analyze("demo", memory="99MiB").table) == 28


@pytest.mark.parametrize("needed", [1, 2**20, 2**20 + 1, 10 * 2**30 - 1, 10 * 2**30 + 1, 123_456_789_012])
def test_what_is_printed_as_needed_is_enough(needed):
    printed = _at_least(needed)
    assert parse_memory(printed.replace(" ", "")) >= needed
    assert all(_at_most(limit) != printed for limit in (needed - 1, needed - 1000) if limit > 0)
