"""Trained weights against float64 LAPACK, loaded by transformers or torch, not by us."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf

import weightscope
from tests import oracles


def assert_rows_are_right(analysis: weightscope.Analysis, weight_of) -> None:
    """σ₁ to 1e-6, ‖·‖_F to 1e-12, every singular value within 1e-6 σ₁: the tolerances of the promise."""
    assert len(analysis.table) > 0
    spectra = analysis.spectra.groupby(["stack", "layer", "group", "parameter"], dropna=False, sort=False)[
        "singular_value"
    ]
    spectra = {key: values.to_numpy() for key, values in spectra}
    for row in analysis.table.to_dict("records"):
        weight = weight_of(row)
        sigma = oracles.singular_values(weight)
        assert (row["out_features"], row["in_features"]) == tuple(weight.shape)
        assert row["frobenius_norm"] == pytest.approx(oracles.frobenius_norm(weight), rel=1e-12)
        assert row["spectral_norm"] == pytest.approx(sigma[0], rel=1e-6)
        assert row["spectral_norm"] <= sigma[0] * (1 + 1e-13)
        key = next(k for k in spectra if k[2:] == (row["group"], row["parameter"]))
        assert np.abs(spectra[key] - sigma).max() <= 1e-6 * sigma[0]
        assert row["nuclear_norm"] == pytest.approx(sigma.sum(), rel=1e-9)
        shares = sigma[sigma > 0] / sigma.sum()
        assert row["effective_rank"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-9)
        assert row["epsilon_rank_0.01"] == (sigma > 0.01 * sigma[0]).sum()
        energy = np.cumsum(sigma**2) / (sigma**2).sum()
        assert row["energy_rank_0.9"] == 1 + int((energy < 0.9).sum())


@pytest.mark.real_weights
def test_minilm(minilm):
    model = hf.BertModel.from_pretrained(minilm, dtype=torch.float32)
    analysis = weightscope.analyze(minilm, spectrum=True, groups="all")
    state = model.state_dict()

    def weight_of(row):
        return torch.cat([state[name] for name in row["parameter"].split("+")])

    assert_rows_are_right(analysis, weight_of)
    assert analysis.provenance["family"] == "bert"
    assert analysis.summary["coverage"]["selected"] == 46
    assert analysis.skipped["parameter"].tolist() == ["embeddings.position_ids"]
    assert analysis.provenance["bytes"]["received"] == analysis.provenance["bytes"]["selected"]


def test_demo(demo):
    model = hf.GPT2LMHeadModel.from_pretrained(demo)
    assert model.dtype == torch.bfloat16

    def weight_of(row):
        if row["layer"] is None or row["layer"] != row["layer"]:
            return model.get_parameter(row["parameter"])
        block = model.transformer.h[int(row["layer"])]
        q, k, v = block.attn.c_attn.weight.split(128, dim=1)
        return {
            "Q": q.T,
            "K": k.T,
            "V": v.T,
            "QKV": block.attn.c_attn.weight.T,
            "O": block.attn.c_proj.weight.T,
            "M1": block.mlp.c_fc.weight.T,
            "M2": block.mlp.c_proj.weight.T,
        }[row["group"]]

    analysis = weightscope.analyze("demo", spectrum=True, groups="all")
    # transformers' parameter names of the fused weight are the checkpoint's
    by_row = analysis.spectra.drop_duplicates(["layer", "group", "parameter"])
    assert len(by_row) == len(analysis.table) == 30
    for row in analysis.table.to_dict("records"):
        same = (analysis.spectra["group"] == row["group"]) & (
            analysis.spectra["parameter"] == row["parameter"]
        )
        found = analysis.spectra.loc[same, "singular_value"].to_numpy()
        sigma = oracles.singular_values(weight_of(row))
        assert np.abs(found - sigma).max() <= 1e-6 * sigma[0]
        assert row["spectral_norm"] == pytest.approx(sigma[0], rel=1e-6)
        assert row["frobenius_norm"] == pytest.approx(oracles.frobenius_norm(weight_of(row)), rel=1e-12)


def _extra(pattern: str) -> list[Path]:
    folder = os.environ.get("WEIGHTSCOPE_EXTRA_WEIGHTS")
    return sorted(Path(folder).rglob(pattern)) if folder else []


@pytest.mark.skipif(
    not _extra("*.th"), reason="WEIGHTSCOPE_EXTRA_WEIGHTS names no folder with trained ResNets"
)
def test_trained_resnets():
    for path in _extra("*.th"):
        state = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
        analysis = weightscope.analyze(path, allow_pickle=True, groups="all", spectrum=True)
        assert_rows_are_right(analysis, lambda row, state=state: state[row["parameter"]].flatten(1))
        assert set(analysis.table["group"]) == {"conv", "other"}


@pytest.mark.skipif(
    not _extra("model_*.pt"), reason="WEIGHTSCOPE_EXTRA_WEIGHTS names no folder with such models"
)
def test_trained_modular_addition():
    for path in _extra("model_*.pt"):
        state = torch.load(path, weights_only=True, map_location="cpu")
        analysis = weightscope.analyze(path, allow_pickle=True, groups="all", spectrum=True)
        assert_rows_are_right(analysis, lambda row, state=state: state[row["parameter"]])
        two_dimensional = {name for name, tensor in state.items() if tensor.dim() >= 2}
        assert set(analysis.table["parameter"]) | set(analysis.skipped["parameter"]) == two_dimensional
