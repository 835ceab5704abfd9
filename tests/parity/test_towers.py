"""Models of several stacks in other spellings than transformers 5 writes, and what is said of them."""

import re

import pytest
import torch
from typer.testing import CliRunner

import weightscope
from tests.parity.cases_towers import TOWERS
from tests.parity.models import build
from tests.parity.test_families import assert_same_weights
from tests.parity.test_old_spellings import rewritten, without
from weightscope.cli.app import app


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
