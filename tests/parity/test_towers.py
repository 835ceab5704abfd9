"""Towers in other spellings than transformers 5 writes, copies of tied weights, and configs of towers."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import weightscope
from tests.factories import write_checkpoint
from tests.parity.cases_towers import TOWERS
from tests.parity.models import build
from tests.parity.test_families import assert_same_weights
from tests.parity.test_old_spellings import rewritten, without
from weightscope.cli.app import app
from weightscope.errors import FamilyMismatch


def case_of(name):
    return next(case for case in TOWERS if case.name == name)


def renamed(*pairs):
    def rename(name):
        for old, new in pairs:
            name = re.sub(old, new, name)
        return name

    return rename


# As the Hub's files are: transformers 5 loads them and does not write them.
HUB_GEMMA3 = renamed((r"^vision_tower\.", "vision_tower.vision_model."))
SPELLINGS = {
    "bart without prefix": ("bart_with_head", renamed((r"^model\.", ""))),
    "whisper without prefix": ("whisper_with_head", renamed((r"^model\.", ""))),
    "clip text": ("clip_text_bare", renamed((r"^", "text_model."))),
    "clip vision": ("clip_vision_bare", renamed((r"^", "vision_model."))),
    "gemma3": ("gemma3_vision_with_head", HUB_GEMMA3),
    "gemma3, all under model": (
        "gemma3_vision_with_head",
        renamed(
            (r"^vision_tower\.", "model.vision_tower.vision_model."),
            (r"^language_model\.model", "model.language_model"),
        ),
    ),
    "wrapped": ("t5_with_head", renamed((r"^", "module."))),
}  # fmt: skip


def assert_others_are(checkpoint, case):
    others = {m.parameter for m in checkpoint.matrices if m.group in ("other", "conv")}
    assert {name for name in others if not name.endswith((*case.others, "_projection_weight"))} == set()


@pytest.mark.parametrize(("name", "rename"), SPELLINGS.values(), ids=SPELLINGS)
def test_other_names(tmp_path, name, rename):
    case = case_of(name)
    model, folder = rewritten(tmp_path, case, rename)
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert_same_weights(checkpoint, model, case)
        assert checkpoint.detection.spec.name == case.family
        assert checkpoint.notes == ()
        if "gemma3" not in name:  # whose pooling head has another name then
            assert_others_are(checkpoint, case)


@pytest.mark.parametrize("case", TOWERS, ids=lambda case: case.name)
def test_names_that_transformers_has_in_memory(tmp_path, case):
    model = build(case)
    model.save_pretrained(tmp_path, save_original_format=False)
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        assert_same_weights(checkpoint, model, case)
        assert_others_are(checkpoint, case)
        assert checkpoint.notes == ()


@pytest.mark.parametrize(
    "name", ["t5_encoder", "bart_decoder", "whisper_encoder", "clip_classifier", "vit_bare"]
)
def test_names_alone_tell_a_stack_without_the_other(tmp_path, name):
    model, folder = rewritten(tmp_path, case_of(name), config=without("model_type"))
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert checkpoint.detection.spec.name != "unknown"
        assert_same_weights(checkpoint, model, case_of(name))


EMBEDDINGS = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")


@pytest.mark.parametrize(("name", "prefix"), [("t5_with_head", ""), ("bart_with_head", "model.")])
def test_tied_weights_of_old_files_are_said_once(tmp_path, name, prefix):
    shared = f"{prefix}shared.weight"
    case = case_of(name)
    weight = build(case).get_parameter(shared).detach()
    copies = [f"{prefix}{EMBEDDINGS[0]}", f"{prefix}{EMBEDDINGS[1]}", EMBEDDINGS[2]]
    model, folder = rewritten(tmp_path, case, extra={copy: weight.clone() for copy in copies})
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert_same_weights(checkpoint, model, case)
        assert [m.parameter for m in checkpoint.matrices if m.group in ("embedding", "unembedding")] == [
            shared
        ]
        tied = {(e.tensor.name, e.reason) for e in checkpoint.skipped if e.kind == "tied"}
        assert tied == {(copy, f"tied to {shared}") for copy in copies}
    once = weightscope.inspect(tmp_path / "new").parameters
    assert weightscope.inspect(folder).parameters == once
    analysis = weightscope.analyze(folder, groups="all")
    assert analysis.summary["coverage"]["skipped"] == analysis.summary["coverage"]["harmless"]


def test_whispers_output_head_is_its_embedding(tmp_path):
    case = case_of("whisper_with_head")
    weight = build(case).get_parameter("model.decoder.embed_tokens.weight").detach()
    _, folder = rewritten(tmp_path, case, extra={"proj_out.weight": weight.clone()})
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert [(e.tensor.name, e.kind) for e in checkpoint.skipped] == [("proj_out.weight", "tied")]


def test_a_copy_of_a_copy_needs_no_original(tmp_path):
    case = case_of("bart_with_head")
    rename = renamed((r"^model\.shared", "model.encoder.embed_tokens"))
    weight = build(case).get_parameter("model.shared.weight").detach()
    _, folder = rewritten(tmp_path, case, rename, extra={"model.decoder.embed_tokens.weight": weight.clone()})
    with weightscope.open_checkpoint(folder) as checkpoint:
        (entry,) = (entry for entry in checkpoint.skipped if entry.kind == "tied")
        assert entry.reason == "tied to model.encoder.embed_tokens.weight"


@pytest.mark.parametrize(
    "config", [lambda stated: {**stated, "tie_word_embeddings": False}, lambda stated: {}]
)
def test_an_output_head_that_may_be_another_is_analysed(tmp_path, config):
    """v1.1 has one of its own, which transformers 5.23 does not load as such."""
    case = case_of("t5_gated_with_head")
    head = torch.randn(31, 24)
    _, folder = rewritten(tmp_path, case, config=config, extra={"lm_head.weight": head})
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert torch.equal(checkpoint.matrix(group="unembedding"), head)
        assert not checkpoint.skipped


def test_embeddings_of_other_shapes_are_no_copies(tmp_path):
    own = {"model.decoder.embed_tokens.weight": torch.randn(29, 24)}
    _, folder = rewritten(tmp_path, case_of("bart_with_head"), extra=own)
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert {m.parameter for m in checkpoint.matrices if m.group == "embedding"} == {
            "model.shared.weight",
            *own,
        }


def test_relative_positions(tmp_path):
    """Old files keep a table of cross attention that no model has."""
    junk = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    model, folder = rewritten(tmp_path, case_of("t5_with_head"), extra={junk: torch.randn(32, 6)})
    with weightscope.open_checkpoint(folder) as checkpoint:
        for stack in ("encoder", "decoder"):
            table = getattr(model, stack).block[0].layer[0].SelfAttention.relative_attention_bias.weight
            assert torch.equal(checkpoint.matrix(stack=stack, layer=0, group="position"), table)
        assert [entry.tensor.name for entry in checkpoint.skipped] == [junk]
        assert junk in checkpoint.assignment.buffers


def test_position_tables_and_convolutions_are_as_the_model_uses_them(tmp_path):
    for name in ("vit_bare", "whisper_bare"):
        model = build(case_of(name))
        model.save_pretrained(tmp_path / name)
        for source in (tmp_path / name, model):
            with weightscope.open_checkpoint(source) as checkpoint:
                if name == "vit_bare":
                    table = model.embeddings.position_embeddings
                    assert torch.equal(checkpoint.matrix(group="position"), table[0])
                    patches = model.embeddings.patch_embeddings.projection.weight
                    assert torch.equal(checkpoint.matrix(group="conv"), patches.flatten(1))
                else:
                    assert {m.parameter for m in checkpoint.matrices if m.group == "position"} == {
                        "encoder.embed_positions.weight",
                        "decoder.embed_positions.weight",
                    }
                    assert {m.shape for m in checkpoint.matrices if m.group == "conv"} == {(24, 21), (24, 72)}
            found = weightscope.analyze(source, groups="position,conv").table
            assert (found["status"] == "ok").all()


def test_position_ids_of_old_files(tmp_path):
    names = [f"{tower}_model.embeddings.position_ids" for tower in ("text", "vision")]
    model, folder = rewritten(
        tmp_path, case_of("clip_with_head"), extra={name: torch.arange(20)[None] for name in names}
    )
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert_same_weights(checkpoint, model, case_of("clip_with_head"))
        assert {(e.tensor.name, e.kind) for e in checkpoint.skipped} == {(name, "buffer") for name in names}


def test_the_projector_is_turned_round(tmp_path):
    model = build(case_of("gemma3_vision_bare"))
    model.save_pretrained(tmp_path)
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        name = "multi_modal_projector.mm_input_projection_weight"
        (matrix,) = (m for m in checkpoint.matrices if m.parameter == name)
        assert matrix.shape == (24, 28)  # from the image's width to the text's


def nested(tower, *omitted, **values):
    """The config with other values in a tower's own, or without some."""

    def config(stated):
        kept = {key: value for key, value in stated[tower].items() if key not in omitted}
        return {**stated, tower: {**kept, **values}}

    return config


HUB_GEMMA3_CONFIG = nested("text_config", "num_attention_heads", "num_key_value_heads", "head_dim")


def test_sizes_that_the_hub_omits(tmp_path):
    _, folder = rewritten(tmp_path, case_of("gemma3_vision_with_head"), HUB_GEMMA3, HUB_GEMMA3_CONFIG)
    text, vision = weightscope.inspect(folder).stacks
    assert (text.stack, text.layers, text.heads, text.kv_heads, text.feed_forward_dimension) == (
        "decoder", 3, 6, 2, 37
    )  # fmt: skip
    assert (vision.stack, vision.layers, vision.heads, vision.model_dimension) == ("vision", 2, 4, 28)


def test_no_tower_takes_the_sizes_of_another(tmp_path):
    """Four heads fit the vision tower, six would not; nothing says four."""
    config = nested("vision_config", "num_attention_heads", "num_hidden_layers")
    model, folder = rewritten(tmp_path, case_of("clip_with_head"), config=config)
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert_same_weights(checkpoint, model, case_of("clip_with_head"))
        assert checkpoint.notes == ()
    assert [stack.heads for stack in weightscope.inspect(folder).stacks] == [6, None]


def changed(**values):
    return lambda stated: {**stated, **values}


@pytest.mark.parametrize(
    ("name", "config", "problem"),
    [
        ("bart_with_head", changed(encoder_attention_heads=7), "encoder.*config's 7 heads"),
        ("bart_with_head", changed(decoder_attention_heads=7), "decoder.*config's 7 heads"),
        ("whisper_with_head", changed(decoder_attention_heads=5), "decoder.*config's 5 heads"),
        ("t5_with_head", changed(num_heads=5), "config says 5 heads of 10"),
        ("t5_with_head", changed(d_kv=4), "config says 6 heads of 4"),
        ("clip_with_head", nested("text_config", num_attention_heads=5), "text_model.*config's 5 heads"),
        ("clip_with_head", nested("vision_config", num_attention_heads=5), "vision_model.*config's 5"),
        ("gemma3_vision_bare", nested("vision_config", num_attention_heads=5), "vision_tower.*config's 5"),
        ("gemma3_vision_bare", nested("text_config", head_dim=12), "language_model.*heads of 12"),
        ("vit_bare", changed(num_attention_heads=5), "config's 5 heads"),
    ],
)  # fmt: skip
def test_heads_that_contradict_a_tower(tmp_path, name, config, problem):
    _, folder = rewritten(tmp_path, case_of(name), config=config)
    with (
        weightscope.open_checkpoint(folder) as checkpoint,
        pytest.raises(FamilyMismatch, match=f"(?s){problem}"),
    ):
        checkpoint.matrices  # noqa: B018


def test_cross_attention_that_contradicts_itself(tmp_path):
    case = case_of("bart_bare")
    build(case).save_pretrained(tmp_path / "new")
    tensors = load_file(tmp_path / "new" / "model.safetensors")
    tensors["decoder.layers.1.encoder_attn.out_proj.weight"] = torch.randn(24, 20)
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    write_checkpoint(tmp_path / "old", tensors, config)
    with (
        weightscope.open_checkpoint(tmp_path / "old") as checkpoint,
        pytest.raises(FamilyMismatch, match=r"encoder_attn.*O reads 20 features"),
    ):
        checkpoint.matrices  # noqa: B018


@pytest.mark.parametrize(
    ("name", "config", "notes"),
    [
        ("bart_with_head", changed(encoder_layers=4), ["4 encoder layers and the tensors have 3"]),
        ("bart_with_head", changed(decoder_layers=3), ["3 decoder layers and the tensors have 2"]),
        ("bart_with_head", changed(num_hidden_layers=3), []),
        ("bart_decoder", changed(encoder_layers=9), []),
        ("bart_decoder", changed(decoder_layers=9), ["9 layers and the tensors have 2"]),
        ("t5_with_head", changed(num_layers=2), ["2 encoder layers and the tensors have 3"]),
        ("t5_with_head", without("num_decoder_layers"), ["3 decoder layers and the tensors have 2"]),
        ("clip_with_head", nested("vision_config", num_hidden_layers=3), ["3 vision layers"]),
        ("clip_with_head", nested("text_config", num_hidden_layers=2), ["2 text layers"]),
        ("gemma3_vision_bare", nested("vision_config", num_hidden_layers=3), ["3 vision layers"]),
        ("gemma3_vision_bare", nested("text_config", num_hidden_layers=2), ["2 decoder layers"]),
    ],
)  # fmt: skip
def test_depths_that_contradict_a_tower_are_said(tmp_path, name, config, notes):
    _, folder = rewritten(tmp_path, case_of(name), config=config)
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert len(checkpoint.notes) == len(notes)
        for found, expected in zip(checkpoint.notes, notes, strict=True):
            assert expected in found


def test_inspect_prints_a_column_a_stack(tmp_path):
    build(case_of("bart_with_head")).save_pretrained(tmp_path)
    shown = CliRunner().invoke(app, ["inspect", str(tmp_path)])
    assert shown.exit_code == 0
    lines = [line.split() for line in shown.stdout.splitlines()]
    for line in (
        ["encoder", "decoder"],
        ["layers", "3", "2"],
        ["FF", "dimension", "37", "41"],
        ["heads", "6", "4"],
        ["vocabulary", "31"],
    ):
        assert line in lines
    assert ["decoder", "cross", "Q", "2", "24×24"] in [line[:5] for line in lines]


def test_table_and_plot_tell_stacks_and_attentions_apart(tmp_path):
    build(case_of("bart_with_head")).save_pretrained(tmp_path)
    analysis = weightscope.analyze(tmp_path)
    table = analysis.table
    assert list(dict.fromkeys(table["stack"])) == ["encoder", "decoder"]
    assert set(table[table["attention_kind"] == "cross"]["group"]) == {"Q", "K", "V", "O"}
    assert {entry["stack"] for entry in analysis.summary["norm_preservation"]["within_layers"]} == {
        "encoder",
        "decoder",
    }
    figure = analysis.plot("frobenius_norm")
    encoder, _, decoder, _ = figure.axes
    assert [line.get_linestyle() for line in encoder.lines] == ["-"] * 5
    assert sorted(line.get_linestyle() for line in decoder.lines) == ["-"] * 5 + ["--"] * 4
    assert [len(axes.lines[0].get_xdata()) for axes in (encoder, decoder)] == [3, 2]
