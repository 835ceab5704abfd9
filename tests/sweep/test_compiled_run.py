"""A whole analysis with the compiled passes and without them: the same numbers."""

import pandas as pd
import pytest
import torch

import weightscope
from tests.factories import GPT2_CONFIG, gpt2_tensors, write_checkpoint
from weightscope.spectra import compiled
from weightscope.spectra.extremal import Bound
from weightscope.spectra.workspace import Workspace

pytestmark = pytest.mark.skipif(not compiled.available(), reason="built without a C compiler")
# Of each number, as far as two runs that round differently may differ; the default is for sums in float64.
TOLERANCES = {
    "spectral_norm": 1e-9, "stable_rank": 1e-9, "stable_rank_squared": 2e-9, "spectral_norm_upper": 2e-6,
}  # fmt: skip


def write_phi(folder, *, dtype, scale=1.0, trained=False):
    """One layer of Phi-2's names: squares, a high and a wide matrix, stored row by row."""
    generator = torch.Generator().manual_seed(0)

    def weight(rows, columns):
        made = torch.randn(rows, columns, generator=generator) * 0.02
        if trained:
            made += torch.outer(made[:, 0], torch.linspace(0, 1, columns))
        return (made * scale).to(dtype)

    prefix = "model.layers.0."
    names = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.dense")
    tensors = {f"{prefix}{name}.weight": weight(224, 224) for name in names}
    tensors |= {f"{prefix}mlp.fc1.weight": weight(1500, 224), f"{prefix}mlp.fc2.weight": weight(224, 1500)}
    config = {
        "model_type": "phi", "hidden_size": 224, "num_attention_heads": 7, "intermediate_size": 1500,
        "num_hidden_layers": 1,
    }  # fmt: skip
    return write_checkpoint(folder, tensors, config)


def assert_same_without(folder, monkeypatch, **options):
    """With everything, without the matrix units, and without the library."""
    mine = weightscope.analyze(folder, **options)
    with monkeypatch.context() as patched:
        patched.setattr(compiled, "_has_matrix_units", lambda: False)
        assert_same(mine, weightscope.analyze(folder, **options))
        patched.setattr(compiled, "library", lambda: None)
        assert_same(mine, weightscope.analyze(folder, **options))
    return mine.table


def assert_same(mine, others):
    for name in mine.table:
        one, other = mine.table[name], others.table[name]
        if pd.api.types.is_float_dtype(one):
            rtol = TOLERANCES.get(name, 1e-12)
            pd.testing.assert_series_equal(
                one, other, rtol=rtol, atol=1e-14 * other.abs().max(), check_exact=False
            )
        else:
            pd.testing.assert_series_equal(one, other)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("bound", list(Bound), ids=str)
def test_the_same_norms(tmp_path, monkeypatch, bound, trained):
    folder = write_phi(tmp_path, dtype=torch.bfloat16, trained=trained)
    table = assert_same_without(folder, monkeypatch, bound=bound)
    assert (table["method"] == "lanczos").all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float8_e4m3fn, torch.float16, torch.float64], ids=str)
def test_the_same_norms_of_other_types(tmp_path, monkeypatch, dtype):
    assert_same_without(write_phi(tmp_path, dtype=dtype), monkeypatch)


@pytest.mark.parametrize(("rows", "method"), [(300, "gram_eigvalsh"), (1400, "mixed_gram_eigvalsh")])
def test_the_same_spectra_within_what_is_stated(monkeypatch, rows, method):
    """Mixed sums round differently; short sides below 256 would have an SVD."""
    weight = torch.randn(rows, 300, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = []
    for without in ({}, {"_has_matrix_units": False}, {"library": None}):
        with monkeypatch.context() as patched:
            for name, nothing in without.items():
                patched.setattr(compiled, name, lambda nothing=nothing: nothing)
            analysis = weightscope.analyze({"h.0.mlp.c_fc.weight": weight}, spectrum=True)
        row = analysis.table.iloc[0]
        assert row["method"] == f"lanczos+{method}"
        found.append((analysis.spectra["singular_value"].to_numpy(), row["spectrum_error"]))
    exact = torch.linalg.svdvals(weight.double()).numpy()
    for values, error in found:
        assert error < 1e-5
        assert abs(values - exact).max() <= error * exact[0]


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_same_norms_at_the_ends_of_the_range(tmp_path, monkeypatch, scale):
    table = assert_same_without(write_phi(tmp_path, dtype=torch.bfloat16, scale=scale), monkeypatch)
    assert (table["status"] == "ok").all()


def test_the_same_norms_of_what_is_stored_transposed(tmp_path, monkeypatch):
    tensors = {name: one.bfloat16() for name, one in gpt2_tensors(layers=1, width=160).items()}
    config = {**GPT2_CONFIG, "n_layer": 1, "n_embd": 160}
    assert_same_without(write_checkpoint(tmp_path, tensors, config), monkeypatch)


def test_weights_in_memory_stay_as_they_are():
    state = {"h.0.mlp.c_fc.weight": (torch.randn(200, 800) * 1e30).bfloat16()}
    before = state["h.0.mlp.c_fc.weight"].clone()
    weightscope.analyze(state)
    assert torch.equal(state["h.0.mlp.c_fc.weight"], before)


def test_bfloat16_is_worked_on_as_it_lies(tmp_path, monkeypatch):
    """No copy is made, in float32 or otherwise."""
    taken = []
    take = Workspace.take

    def noted(self, name, *shape, **options):
        taken.append((name, options.get("dtype")))
        return take(self, name, *shape, **options)

    monkeypatch.setattr(Workspace, "take", noted)
    weightscope.analyze(write_phi(tmp_path, dtype=torch.bfloat16))
    assert taken
    assert not [name for name, _ in taken if name in ("exact", "solver.scaled")]
