"""`--schema weightwatcher`: against what WeightWatcher 0.7.7 itself gave, and where we depart from it."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

import weightscope
from tests.factories import gpt2_tensors, write_checkpoint, write_gpt2
from tests.parity.weightwatcher_reference import REFERENCE, tensors
from weightscope.errors import OptionError, WeightscopeError
from weightscope.weightwatcher import COLUMNS, weightwatcher_table

# Both take a float64 SVD of the same matrix; each moves a σ by at most N·2⁻⁵²·σ₁ with N ≤ 300, so that two of
# them differ by less than 1.4e-13·σ₁.
SVD = 1.4e-13
# Sums and logarithms of such values over a few hundred of them.
DERIVED = 1e-11
# alpha divides by Σ ln(λ/xmin) over the tail, D follows from it; xmin is itself a λ, up to 1e-5·λ₁ small.
FITTED = 1e-8
# Where the two part on purpose: rows, and what is empty here or differs, by column.
NO_POWER_LAW = ("D", "alpha", "alpha_weighted", "log_alpha_norm", "num_pl_spikes", "sigma", "xmax", "xmin")
DEPARTURES = {
    "low_rank": ("sv_min",),  # the rounding of a zero
    "lower_rank": ("sv_min", "sigma"),  # theirs is of alpha = 0 where fewer than eight values are fitted
    "zero": (*NO_POWER_LAW, "warning", "log_norm", "log_spectral_norm", "sv_min"),
}


@pytest.fixture(scope="module")
def ours():
    analysis = weightscope.analyze(tensors(), groups="all", spectrum=True)
    return analysis.weightwatcher().set_index("longname", drop=False)


@pytest.fixture(scope="module")
def theirs():
    return read(REFERENCE).set_index("longname", drop=False)


def test_the_columns_are_theirs_in_their_order(ours, theirs):
    assert list(ours.columns) == list(theirs.columns) == [column.name for column in COLUMNS]


def test_every_row_of_theirs_is_there_and_what_they_drop_too(ours, theirs):
    assert list(ours.index) == sorted(name.removesuffix(".weight") for name in tensors())
    assert set(ours.index) - set(theirs.index) == {"too_few"}
    assert ours.loc["too_few", "status"] == "success"
    assert list(ours["layer_id"]) == list(range(len(ours)))


def cases():
    exact = "name longname M N Q rf has_esd layer_type status warning num_evals num_pl_spikes matrix_rank "
    exact += "rank_loss weak_rank_loss"
    derived = "norm spectral_norm lambda_max sv_max stable_rank entropy log_norm log_spectral_norm"
    fitted = "alpha D sigma xmin xmax alpha_weighted log_alpha_norm"
    tolerances = dict.fromkeys(exact.split(), 0.0) | dict.fromkeys(derived.split(), DERIVED)
    return tolerances | dict.fromkeys(fitted.split(), FITTED) | {"sv_min": SVD}


def test_no_column_goes_uncompared():
    assert {"layer_id", *cases()} == {column.name for column in COLUMNS}


@pytest.mark.parametrize("column", cases())
def test_values_are_theirs(ours, theirs, column):
    tolerance = cases()[column]
    for name, expected in theirs[column].items():
        found = ours.loc[name, column]
        if column in DEPARTURES.get(name, ()):
            assert pd.isna(found) or found == "" or (name, column) == ("lower_rank", "sigma")
        elif column == "sv_min":  # an absolute error, of the size of σ₁
            assert abs(found - expected) <= tolerance * theirs.loc[name, "sv_max"], name
        elif pd.isna(expected):
            assert pd.isna(found), name
        elif tolerance:
            assert found == pytest.approx(expected, rel=tolerance), name
        else:
            assert found == expected, name


def test_where_few_values_are_fitted_sigma_is_that_of_alpha(ours, theirs):
    row = ours.loc["lower_rank"]
    assert theirs.loc["lower_rank", "sigma"] == pytest.approx(-1 / math.sqrt(5), rel=1e-15)
    assert row["sigma"] == pytest.approx((row["alpha"] - 1) / math.sqrt(5), rel=1e-15)


def test_the_reference_meets_every_branch(theirs):
    fitted = theirs["num_evals"] - theirs["weak_rank_loss"]
    assert (fitted[theirs["status"] == "success"] < 8).any()
    assert ((fitted >= 8) & (fitted < 20)).any()
    assert theirs["num_pl_spikes"].lt(10).sum() > 2  # tails that our own `alpha` does not take
    assert set(theirs["warning"]) == {"", "over-trained", "under-trained"}


def read(path):
    """Older versions of pandas may be off by a rounding in each number."""
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    return frame.assign(warning=frame["warning"].astype(object).fillna(""))


def names(analysis):
    return list(analysis.weightwatcher()["longname"])


def test_a_fused_weight_is_one_row_and_a_stack_none(tmp_path):
    analysis = weightscope.analyze(write_gpt2(tmp_path), groups="all", spectrum=True, layers=1)
    assert set(analysis.table["group"]) == {"Q", "K", "V", "QKV", "O", "M1", "M2"}
    parts = ("attn.c_proj", "attn.c_attn", "mlp.c_fc", "mlp.c_proj")
    assert sorted(names(analysis)) == sorted(f"h.1.{part}" for part in parts)


def test_a_weight_whose_heads_are_interleaved_is_one_row_too(tmp_path):
    layer = "layers.0.attention"
    tensors = {
        f"{layer}.query_key_value.weight": torch.randn(72, 24),
        f"{layer}.dense.weight": torch.randn(24, 24),
    }
    config = {"model_type": "gpt_neox", "num_attention_heads": 6}
    analysis = weightscope.analyze(write_checkpoint(tmp_path, tensors, config), spectrum=True)
    assert sorted(names(analysis)) == [f"{layer}.dense", f"{layer}.query_key_value"]


SEPARATE = {f"layers.0.self_attn.{part}_proj.weight": torch.randn(12, 8) for part in "qkv"}


@pytest.mark.parametrize(
    ("weights", "groups", "expected"),
    [
        (SEPARATE, "Q,K,V,QKV", ["layers.0.self_attn.q_proj", "….k_proj", "….v_proj"]),
        (SEPARATE, "QKV", ["layers.0.self_attn.q_proj+….k_proj+….v_proj"]),
        (SEPARATE, "K,QKV", ["layers.0.self_attn.k_proj"]),
        (gpt2_tensors(layers=1), "Q,QKV", ["h.0.attn.c_attn"]),
        (gpt2_tensors(layers=1), "Q,V", ["h.0.attn.c_attn[Q]", "h.0.attn.c_attn[V]"]),
    ],
)
def test_parts_and_stacks_stand_in_for_weights_without_a_row(weights, groups, expected):
    analysis = weightscope.analyze(weights, groups=groups, spectrum=True)
    assert names(analysis) == [name.replace("…", "layers.0.self_attn") for name in expected]


def test_a_transposed_weight_has_the_same_sides():
    frame = weightscope.analyze(gpt2_tensors(layers=1), groups="M1,M2", spectrum=True).weightwatcher()
    assert set(zip(frame["N"], frame["M"], frame["Q"], strict=True)) == {(32, 8, 4.0)}


def test_kernels_say_that_they_are_flattened():
    analysis = weightscope.analyze({"conv.weight": torch.randn(5, 3, 2, 2)}, groups="all", spectrum=True)
    row = analysis.weightwatcher().iloc[0]
    assert (row["layer_type"], row["N"], row["M"]) == ("flattened", 12, 5)


def test_a_matrix_without_numbers_keeps_its_row():
    weights = {"a.weight": torch.randn(9, 8), "b.weight": torch.full((9, 8), math.nan)}
    weights["c.weight"] = torch.randn(8, 10)
    analysis = weightscope.analyze(weights, groups="all", spectrum=True)
    frame = analysis.weightwatcher()
    assert list(frame["has_esd"]) == [True, False, True]
    assert list(frame["status"]) == ["success", "failed", "success"]
    assert frame.loc[1, ["alpha", "norm", "num_evals", "matrix_rank"]].isna().all()
    largest = [np.linalg.norm(weights[f"{name}.weight"].double().numpy(), 2) for name in "ac"]
    assert list(frame["sv_max"][[0, 2]]) == pytest.approx(largest, rel=1e-12)


def test_a_rank_within_the_error_is_empty():
    analysis = weightscope.analyze(tensors(), groups="all", spectrum=True)
    rough = analysis.table.assign(spectrum_error=1e-8)
    frame = weightwatcher_table(analysis.matrices, rough, analysis.spectra).set_index("name")
    assert frame.loc["low_rank", ["matrix_rank", "rank_loss", "entropy", "sv_min"]].isna().all()
    assert frame.loc["gaussian", "matrix_rank"] == 200
    assert frame.loc["gaussian", "sv_min"] > 0
    assert frame.loc["heavier_tail", "weak_rank_loss"] == 0


def test_a_rank_of_one_has_no_entropy():
    """Theirs divides by the logarithm of 1 + 1e-10."""
    weights = {"w.weight": torch.ones(20, 10)}
    row = weightscope.analyze(weights, groups="all", spectrum=True).weightwatcher().iloc[0]
    assert row["matrix_rank"] == 1
    assert math.isnan(row["entropy"])
    assert row["status"] == "failed"


def test_a_large_alpha_does_not_overflow():
    weights = {"w.weight": 1e20 * torch.linalg.qr(torch.randn(30, 30))[0] * torch.linspace(1, 1.01, 30)}
    row = weightscope.analyze(weights, groups="all", spectrum=True).weightwatcher().iloc[0]
    assert row["alpha"] > 50
    assert row["alpha_weighted"] <= row["log_alpha_norm"] < row["alpha_weighted"] + 1.5


def test_nothing_selected_is_an_empty_frame_with_its_columns():
    frame = weightscope.analyze({"0.weight": torch.randn(3, 4)}, spectrum=True).weightwatcher()
    assert len(frame) == 0
    assert list(frame.columns) == [column.name for column in COLUMNS]


def test_saved_as_a_file_of_the_report_and_removed_by_the_next(tmp_path):
    analysis = weightscope.analyze(write_gpt2(tmp_path / "model"), spectrum=True)
    plain = [path.name for path in analysis.save(tmp_path / "out", plots=False)]
    both = [path.name for path in analysis.save(tmp_path / "out", plots=False, schema="weightwatcher")]
    assert set(both) - set(plain) == {"weightwatcher.csv"}
    frame = read(tmp_path / "out" / "weightwatcher.csv")
    pd.testing.assert_frame_equal(frame, analysis.weightwatcher(), check_dtype=False, rtol=1e-15)
    analysis.save(tmp_path / "out", plots=False)
    assert not (tmp_path / "out" / "weightwatcher.csv").exists()


def test_what_cannot_be_had_is_said_in_three_sentences(tmp_path):
    folder = write_checkpoint(tmp_path / "model", gpt2_tensors())
    analysis = weightscope.analyze(folder)
    for ask in (analysis.weightwatcher, lambda: analysis.save(tmp_path / "out", schema="weightwatcher")):
        with pytest.raises(OptionError, match="spectrum=True") as caught:
            ask()
        assert isinstance(caught.value, WeightscopeError)
    with pytest.raises(OptionError, match="'excel'"):
        analysis.save(tmp_path / "out", schema="excel")
    assert not list((tmp_path / "out").glob("*.csv"))
