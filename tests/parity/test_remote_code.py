"""Families whose code is not in transformers, by formula: against `remote_code.py`, not against a layout."""

import pytest
import torch
from torch.nn import functional as F

import weightscope
from tests.factories import write_checkpoint
from tests.parity.formula import by_formula
from tests.parity.models import FEED_FORWARD, HEADS, HIDDEN, LAYERS, VOCABULARY
from tests.parity.remote_code import REFERENCES, ChatGLMMLP
from tests.parity.test_wrong_layouts import WRONG, WRONG_GATES, same_split
from weightscope.errors import FamilyMismatch
from weightscope.families.heads import HeadCounts
from weightscope.families.layouts import LAYOUTS, PARTS
from weightscope.families.registry import FAMILIES


def assert_computes_the_same(checkpoint, reference) -> None:
    """What attention receives and what the feed-forward part gives, from the matrices and from the code."""
    x = torch.randn(5, HIDDEN, generator=torch.Generator().manual_seed(1))
    for number in range(LAYERS):
        attention, mlp = reference.layer(number)
        groups = ("Q", "K", "V", "O", "QKV", "M1", "M2")
        found = {group: checkpoint.matrix(layer=number, group=group) for group in groups}
        with torch.no_grad():
            for group, received in zip("QKV", attention.received(x), strict=True):
                by_head = (x @ found[group].T).unflatten(-1, (-1, reference.head_dim))
                torch.testing.assert_close(by_head, received, rtol=1e-4, atol=1e-5)
            context = torch.randn(5, found["Q"].shape[0])
            torch.testing.assert_close(context @ found["O"].T, getattr(attention, attention.output)(context))
            assert torch.equal(found["QKV"], torch.cat([found[group] for group in "QKV"]))
            hidden = x @ found["M1"].T
            if isinstance(mlp, ChatGLMMLP):
                hidden = F.gelu(hidden, approximate="tanh")
            else:
                hidden = F.silu(x @ checkpoint.matrix(layer=number, group="G").T) * hidden
            torch.testing.assert_close(hidden @ found["M2"].T, mlp(x), rtol=1e-4, atol=1e-4)


def write(folder, family, *, bare=False, config=None):
    """The checkpoint; a bare one has no prefix and no head."""
    reference = REFERENCES[family]
    tensors = reference.tensors()
    if bare:
        heads = ("lm_head", "output", "transformer.output_layer")
        kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(heads)}
        tensors = {name.removeprefix(reference.prefix): tensor for name, tensor in kept.items()}
    return write_checkpoint(folder, tensors, config or reference.config, shards=2)


@by_formula(*REFERENCES)
@pytest.mark.parametrize("bare", [False, True], ids=["with_head", "bare"])
@pytest.mark.parametrize("family", REFERENCES)
def test_the_matrices_compute_what_the_code_computes(tmp_path, family, bare):
    with weightscope.open_checkpoint(write(tmp_path, family, bare=bare)) as checkpoint:
        assert checkpoint.detection.spec.name == family
        assert_computes_the_same(checkpoint, REFERENCES[family])
        used = {part.tensor.name for matrix in checkpoint.matrices for part in matrix.slices}
        assert used == set(checkpoint.tensors)
        assert not {str(m.group) for m in checkpoint.matrices} & {"other", "conv"}
        assert not any("states" in note for note in checkpoint.notes)
    found = weightscope.inspect(tmp_path)
    assert (found.heads, found.kv_heads) == (HEADS, REFERENCES[family].kv_heads)
    assert (found.layers, found.feed_forward_dimension, found.vocabulary) == (
        LAYERS,
        FEED_FORWARD,
        VOCABULARY,
    )


@pytest.mark.parametrize("family", REFERENCES)
def test_live_tensors_give_the_same_table(tmp_path, family):
    write(tmp_path, family)
    reference = REFERENCES[family]

    class Model(torch.nn.Module):
        def state_dict(self):
            return reference.tensors()

    model = Model()
    model.config = dict(reference.config)
    from_disk, live = weightscope.analyze(tmp_path).table, weightscope.analyze(model).table
    assert from_disk["group"].tolist() == live["group"].tolist()
    assert (from_disk["spectral_norm"] == live["spectral_norm"]).all()


@pytest.mark.parametrize("family", REFERENCES)
def test_names_alone_mean_the_same(tmp_path, family):
    reference = REFERENCES[family]
    config = {key: value for key, value in reference.config.items() if key != "model_type"}
    with weightscope.open_checkpoint(write(tmp_path, family, config=config)) as checkpoint:
        assert checkpoint.detection.spec.name == family
        assert_computes_the_same(checkpoint, reference)


def wrong_layouts():
    for family, reference in REFERENCES.items():
        for right in {pattern.layout for pattern in FAMILIES[family].patterns} - {None}:
            for name, wrong in (WRONG_GATES if right in PARTS else WRONG).items():
                if name != right:
                    yield pytest.param(family, reference, right, wrong, id=f"{family}-{name}")


@pytest.mark.parametrize(
    ("family", "reference", "right", "wrong"), sorted(wrong_layouts(), key=lambda p: p.id)
)
def test_another_layout_does_not_pass(monkeypatch, tmp_path, family, reference, right, wrong):
    layout = wrong(LAYOUTS[right])
    query_rows = HEADS * reference.head_dim
    counts = HeadCounts(heads=HEADS, kv_heads=reference.kv_heads, query_rows=query_rows)
    rows = query_rows + 2 * reference.kv_heads * reference.head_dim
    if right in PARTS:
        rows = 2 * FEED_FORWARD
    elif same_split(layout, right, None, rows, counts):
        pytest.skip("with these heads it is the same layout")
    monkeypatch.setitem(LAYOUTS, right, layout)
    write(tmp_path, family)
    with (
        weightscope.open_checkpoint(tmp_path) as checkpoint,
        pytest.raises((AssertionError, FamilyMismatch)),
    ):
        assert_computes_the_same(checkpoint, reference)


def test_chatglm2_without_grouped_queries_is_not_guessed(tmp_path):
    """Its code then reads [q; k; v] for each head, and no shape shows it; no public file is so."""
    config = {**REFERENCES["chatglm2"].config, "multi_query_attention": False}
    tensors = REFERENCES["chatglm2"].tensors()
    rows = 3 * HEADS * REFERENCES["chatglm2"].head_dim
    fused = {name: torch.randn(rows, HIDDEN) for name in tensors if "query_key_value" in name}
    with (
        weightscope.open_checkpoint(write_checkpoint(tmp_path, {**tensors, **fused}, config)) as checkpoint,
        pytest.raises(FamilyMismatch, match="for each head fit alike"),
    ):
        _ = checkpoint.matrices


BLOCKS = {4: {}, 8: {"head_dim": 128}}


@by_formula("codegen")
@pytest.mark.parametrize("blocks", BLOCKS)
def test_codegen2_has_eight_blocks(tmp_path, blocks):
    """By its code, which transformers loads for no model of its own: [query; value; key] in each block."""
    heads, head_dim = 8, 128
    width = heads * head_dim
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3 * width, width, generator=generator)
    names = {"attn.out_proj": (width, width), "mlp.fc_in": (5, width), "mlp.fc_out": (width, 5)}
    tensors = {f"transformer.h.0.{name}.weight": torch.randn(shape) for name, shape in names.items()}
    config = {"model_type": "codegen", "n_head": heads, "n_embd": width, "n_layer": 1, **BLOCKS[blocks]}
    write_checkpoint(tmp_path, {**tensors, "transformer.h.0.attn.qkv_proj.weight": weight}, config)
    x = torch.randn(2, width, generator=generator)
    split = (x @ weight.T).reshape(2, blocks, 3 * width // blocks).split(width // blocks, -1)
    query, value, key = (part.reshape(2, heads, head_dim) for part in split)
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        for group, received in (("Q", query), ("K", key), ("V", value)):
            projected = (x @ checkpoint.matrix(layer=0, group=group).T).unflatten(-1, (heads, head_dim))
            torch.testing.assert_close(projected, received, rtol=1e-4, atol=1e-3)


def test_codegen_with_other_heads_is_not_guessed(tmp_path):
    tensors = {f"transformer.h.0.attn.{name}.weight": torch.randn(s, 24) for name, s in
               (("qkv_proj", 72), ("out_proj", 24))}  # fmt: skip
    config = {"model_type": "codegen", "n_head": 8, "head_dim": 3}
    with (
        weightscope.open_checkpoint(write_checkpoint(tmp_path, tensors, config)) as checkpoint,
        pytest.raises(FamilyMismatch, match="CodeGen2 states 128 or 256"),
    ):
        _ = checkpoint.matrices
