"""`families draft`: a file that loads as it is, means what was guessed, and leaves the rest to its reader."""

import json

import pytest
import torch
import yaml

import weightscope
from tests.factories import GPT2_CONFIG, gpt2_tensors, write_checkpoint
from tests.families.made_up import llama, llama_config
from weightscope.drafting import draft_family
from weightscope.errors import UnknownFamily
from weightscope.families.family_file import load_family
from weightscope.families.layouts import LAYOUTS
from weightscope.families.registry import FAMILIES


def matrices(folder, **options):
    with weightscope.open_checkpoint(folder, **options) as checkpoint:
        return checkpoint.matrices, checkpoint.skipped


def drafted(folder, path, **options):
    draft = draft_family(folder, **options)
    path.write_text(draft.text)
    return draft, str(path)


def towers():
    return {
        f"{tower}.layers.{layer}.attn.{leaf}_proj.weight": torch.randn(6, 6)
        for tower in ("vision_model.encoder", "text_model.encoder")
        for layer in range(2)
        for leaf in "qkv"
    }


def plain(tensors, name):
    return {**tensors, name: torch.randn(3, 4)}


UNKNOWN = {
    "llama": llama(0, 1),
    "llama, no prefix": llama(0, 1, prefix=""),
    "gpt2": gpt2_tensors(),
    "deep prefix": llama(0, 1, prefix="net.body.model."),
    "more names": plain(llama(0, 1), "model.layers.1.extra.weight"),
    "a name where the prefix is none": plain(llama(0, 1), "layers.0.self_attn.q_proj.weight"),
    "a name with braces": plain(llama(0, 1), "model.layers.0.{x}.q_proj.weight"),
    "two towers": towers(),
    "two guesses for a place": {
        f"layers.{layer}.{path}.q_proj.weight": torch.randn(4, 4) for layer in range(2) for path in ("a", "b")
    },
    "places shared in part": {
        f"layers.{layer}.{path}.q_proj.weight": torch.randn(4, 4)
        for path, layers in (("a", range(3)), ("b", range(2, 5)))
        for layer in layers
    },
    "experts": {
        f"model.layers.0.mlp.experts.{expert}.{leaf}_proj.weight": torch.randn(4, 4)
        for expert in range(3)
        for leaf in ("up", "down")
    },
    "convolutions and integers": {
        "stem.conv.weight": torch.randn(3, 3, 2, 2), "ids": torch.zeros(2, 3, dtype=torch.int64),
        "blocks.0.attn.qkv.weight": torch.randn(12, 4), "blocks.0.three": torch.randn(2, 2, 2),
    },
    "no layers": {"0.weight": torch.randn(3, 4), "2.weight": torch.randn(2, 3)},
    "quotes": plain(llama(0), "model.layers.0.'\"#: [x].router.weight"),
    "wrapped": {f"module.{name}": tensor for name, tensor in llama(0, 1).items()},
    "vectors alone": {"a.weight": torch.randn(4)},
}  # fmt: skip


@pytest.mark.parametrize(("name_of_case", "tensors"), UNKNOWN.items(), ids=UNKNOWN)
def test_a_draft_of_guesses_loads_and_means_the_same(tmp_path, name_of_case, tensors):
    folder = write_checkpoint(tmp_path / "model", tensors, {"model_type": "brand-new", "heads": 2})
    draft, path = drafted(folder, tmp_path / "my.yaml")
    guessed = matrices(folder)
    torn = name_of_case == "places shared in part"  # the guesses leave some layers without
    assert matrices(folder, family=path, partial=torn) == guessed
    assert any("refused" in note for note in draft.notes) == torn
    assert load_family(path).name == "brand-new"
    assert yaml.safe_load(draft.text)["model_types"] == ["brand-new"]


def test_every_kind_of_tensor_is_in_it(tmp_path):
    tensors = {**UNKNOWN["more names"], **UNKNOWN["convolutions and integers"]}
    folder = write_checkpoint(tmp_path, tensors, {"model_type": "new"})
    text = draft_family(folder).text
    for name, tensor in tensors.items():
        if tensor.dim() >= 2 and ".1." not in name:
            assert f"{name} {list(tensor.shape)}" in text, name


def test_a_line_says_what_it_was_guessed_from(tmp_path):
    folder = write_checkpoint(
        tmp_path, {**UNKNOWN["more names"], "extra": torch.randn(4, 5)}, {"model_type": "x"}
    )
    text = draft_family(folder).text
    assert (
        "# guessed from its name; 2 tensors such as model.layers.0.mlp.up_proj.weight [12, 8] F32\n"
        "- template: '{prefix}layers.{layer}.mlp.up_proj.weight'\n"
        "  group: M1\n"
    ) in text
    assert (
        "# 1 tensor, model.layers.1.extra.weight [3, 4] F32\n"
        "# - template: '{prefix}layers.{layer}.extra.weight'\n"
        "#   group: GROUP\n"
    ) in text
    assert "prefixes:\n- model.\n- ''\n" in text


def test_comments_become_fields_when_their_marks_are_taken_away(tmp_path):
    tensors = plain(plain(llama(0, 1), "model.layers.0.extra.weight"), "model.layers.1.extra.weight")
    folder = write_checkpoint(tmp_path / "model", tensors, llama_config(2, model_type="new"))
    text = draft_family(folder).text
    start = text.index("# - template: '{prefix}layers.{layer}.extra.weight'")
    stop = text.index("reference:")
    block = text[start:stop].replace("# - ", "- ").replace("#   ", "  ").replace("GROUP", "router")
    (tmp_path / "my.yaml").write_text(text[:start] + block + text[stop:])
    with weightscope.open_checkpoint(folder, family=str(tmp_path / "my.yaml")) as checkpoint:
        assert [m.layer for m in checkpoint.matrices if m.group == "router"] == [0, 1]
        assert "other" not in {m.group for m in checkpoint.matrices}


def test_a_draft_without_a_guess_can_be_filled_in_as_it_stands(tmp_path):
    """No list is closed above the entries that become real when their marks are taken away."""
    tensors = {f"blk.{n}.{leaf}.weight": torch.randn(12, 4) for n in range(2) for leaf in ("a", "b")}
    folder = write_checkpoint(tmp_path / "model", tensors | {"blk.0.c.weight": torch.randn(4, 12)}, {})
    draft, path = drafted(folder, tmp_path / "my.yaml")
    assert load_family(path).patterns == ()
    assert "12 is three times 4: it may be Q, K and V in one, group QKV." in draft.text
    assert "group QKV, with transposed: true." in draft.text
    for layout in LAYOUTS:
        assert layout in draft.text, layout
    first = "# - template: 'blk.{layer}.a.weight'\n#   group: GROUP\n"
    assert draft.text.count(first) == 1
    filled = "- template: 'blk.{layer}.a.weight'\n  group: QKV\n  layout: contiguous_thirds\n"
    (tmp_path / "my.yaml").write_text(draft.text.replace(first, filled))
    assert {m.group for m in matrices(folder, family=path)[0]} == {"Q", "K", "V", "QKV", "other"}


def test_an_entry_below_a_closed_list_is_told(tmp_path):
    (tmp_path / "my.yaml").write_text("name: x\npatterns: []  # none\n# a\n\n- template: a\n  group: Q\n")
    with pytest.raises(UnknownFamily, match=r"'patterns: \[\]' is a whole list, and entries follow it"):
        load_family(tmp_path / "my.yaml")


@pytest.mark.parametrize(
    ("model_type", "name"),
    [("llama", "mine"), ("a b", "mine"), ("unknown", "mine"), (None, "mine"), ("ok", "ok")],
)
def test_the_name_is_nobody_elses(tmp_path, model_type, name):
    tensors = {f"blocks.0.attn.{leaf}_proj.weight": torch.randn(4, 4) for leaf in "qkv"}
    config = {} if model_type is None else {"model_type": model_type}
    text = draft_family(write_checkpoint(tmp_path, tensors, config)).text
    assert yaml.safe_load(text)["name"] == name
    assert ("model_types" in yaml.safe_load(text)) == (name != "mine")


def test_a_known_family_is_its_entry(tmp_path):
    folder = write_checkpoint(tmp_path / "model", plain(gpt2_tensors(), "h.0.extra"), GPT2_CONFIG)
    draft, path = drafted(folder, tmp_path / "my.yaml")
    assert load_family(path) == FAMILIES["gpt2"]
    assert matrices(folder, family=path) == matrices(folder)
    assert draft.notes == ()
    assert "# - template: '{prefix}h.{layer}.extra'" in draft.text
    edited = draft.text.replace("  layout: contiguous_thirds\n", "")
    (tmp_path / "my.yaml").write_text(edited)
    assert "Q" not in {m.group for m in matrices(folder, family=path)[0]}


def test_what_the_draft_would_be_refused_for_is_said(tmp_path):
    folder = write_checkpoint(tmp_path, llama(0, 3), llama_config(4, model_type="new", num_attention_heads=5))
    notes = draft_family(folder).notes
    assert "refused" in notes[-1]
    assert "5 heads" in notes[-1]


def test_a_weight_that_is_stored_the_other_way_round(tmp_path):
    """Every weight but the square ones shows it; those follow their neighbours."""
    tensors = {name: t.T.contiguous() if "layers" in name else t for name, t in llama(0, 1).items()}
    folder = write_checkpoint(tmp_path, tensors, {"model_type": "new"})
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert checkpoint.find(layer=0, group="M1").shape == (12, 8)
        assert checkpoint.find(layer=0, group="K").shape == (4, 8)
        assert all(m.slices[0].transposed for m in checkpoint.matrices if m.layer is not None)
    assert "transposed: true" in draft_family(folder).text


def test_square_weights_that_nothing_settles_are_in_doubt(tmp_path):
    tensors = {f"layers.0.attn.{leaf}_proj.weight": torch.randn(4, 4) for leaf in "qkv"}
    folder = write_checkpoint(tmp_path, tensors, {"model_type": "new"})
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert any("Square, and no neighbour tells" in note for note in checkpoint.notes)
    assert "# Square: its shape does not tell" in draft_family(folder).text


def heads_of(weight, heads):
    return weight.unflatten(0, (heads, -1))


@pytest.fixture
def per_head(tmp_path):
    """A model that nobody else has: [q; k; v] head by head, two matrices in its feed-forward part."""
    generator = torch.Generator().manual_seed(0)
    heads, head, width, inner = 3, 5, 15, 22
    expected, tensors = {}, {"embed.weight": torch.randn(40, width)}
    for layer in range(3):
        q, k, v = torch.randn(3, heads * head, width, generator=generator)
        fused = torch.cat([heads_of(weight, heads) for weight in (q, k, v)], dim=1).flatten(0, 1)
        first, second = torch.randn(inner, width), torch.randn(width, inner)
        tensors |= {
            f"core.cells.layers.{layer}.mixing.qkv.weight": fused,
            f"core.cells.layers.{layer}.mixing.merge.weight": torch.randn(width, heads * head),
            f"core.cells.layers.{layer}.wide.weight": first,
            f"core.cells.layers.{layer}.narrow.weight": second,
        }
        expected[layer] = {"Q": q, "K": k, "V": v, "M1": first, "M2": second}
    config = {"model_type": "own", "cells": 3, "count_of_heads": heads}
    return write_checkpoint(tmp_path / "model", tensors, config, shards=2), expected


def test_the_whole_round(tmp_path, per_head):
    """Draft, correct, analyse: Q, K and V are those that were fused."""
    folder, expected = per_head
    _, path = drafted(folder, tmp_path / "my.yaml")
    assert {m.group for m in matrices(folder, family=path)[0]} == {"QKV", "other"}
    text = (tmp_path / "my.yaml").read_text()
    for old, new in (
        ("  # layout: LAYOUT\n", "  layout: interleaved_by_head\n"),
        ("# config_keys:\n#   heads: KEY\n", "config_keys:\n  heads: count_of_heads\n  layers: cells\n"),
        *(
            (f"# - template: '{{prefix}}layers.{{layer}}.{name}.weight'\n#   group: GROUP",
             f"- template: '{{prefix}}layers.{{layer}}.{name}.weight'\n  group: {group}")
            for name, group in (("mixing.merge", "O"), ("wide", "M1"), ("narrow", "M2"))
        ),
    ):  # fmt: skip
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (tmp_path / "my.yaml").write_text(text)
    with weightscope.open_checkpoint(folder, family=path) as checkpoint:
        for layer, weights in expected.items():
            for group, weight in weights.items():
                assert torch.equal(checkpoint.matrix(layer=layer, group=group), weight), (layer, group)
        assert checkpoint.notes == ()
    table = weightscope.analyze(folder, family=path).table.set_index(["layer", "group"])
    for layer, weights in expected.items():
        norm = torch.linalg.matrix_norm(weights["K"].double(), ord=2)
        assert table.loc[(layer, "K")]["spectral_norm"] == pytest.approx(float(norm), rel=1e-6)
    wrong = json.loads((folder / "config.json").read_text()) | {"count_of_heads": 4}
    (folder / "config.json").write_text(json.dumps(wrong))
    with pytest.raises(weightscope.WeightscopeError, match="do not divide into 4"):
        weightscope.analyze(folder, family=path)


def test_a_width_that_is_none_is_named_in_the_draft(tmp_path):
    """Some models round the width that their config states: their draft is used as it is all the same."""
    folder = write_checkpoint(
        tmp_path / "model", llama(0, 1), llama_config(2, model_type="rounded", intermediate_size=11)
    )
    draft = draft_family(folder)
    assert "feed_forward_dimension: ''" in draft.text
    assert "config.json states a feed-forward width of 11, and the tensors have 12" in draft.notes[1]
    assert not any("refused" in note for note in draft.notes)
    (tmp_path / "mine.yaml").write_text(draft.text)
    with weightscope.open_checkpoint(folder, family=str(tmp_path / "mine.yaml")) as checkpoint:
        assert checkpoint.find(layer=1, group="M1").shape == (12, 8)
