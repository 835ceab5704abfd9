"""`analyze` as a whole: selection, coverage, partial results, every source."""

import math

import numpy as np
import pytest
import torch

import weightscope
from tests.factories import GPT2_CONFIG, gpt2_tensors, write_checkpoint, write_gpt2
from weightscope.errors import CheckpointFormatError, OptionError, SelectionError


def test_selection(tmp_path):
    analysis = weightscope.analyze(write_gpt2(tmp_path, layers=4), groups=["M1", "Q"], layers="1-2")
    assert list(zip(analysis.table["layer"], analysis.table["group"], strict=True)) == [
        (1, "Q"), (1, "M1"), (2, "Q"), (2, "M1"),
    ]  # fmt: skip
    not_selected = analysis.skipped[analysis.skipped["status"] == "not_selected"]["parameter"]
    assert "h.0.attn.c_attn.weight" in set(not_selected)
    assert "h.1.attn.c_attn.weight" not in set(not_selected)  # its Q was
    assert analysis.provenance["bytes"]["received"] == 2 * 4 * (8 * 24 + 8 * 32)


@pytest.mark.parametrize("groups", ["all", "Q", "embedding"])
@pytest.mark.parametrize("layers", [None, "0"])
def test_completeness_law(tmp_path, groups, layers):
    """Every tensor of two or more dimensions is analysed, not selected, or skipped with a reason."""
    tensors = {**gpt2_tensors(), "x.ids": torch.zeros(2, 2, dtype=torch.int64), "x.w": torch.randn(3, 3)}
    analysis = weightscope.analyze(
        write_checkpoint(tmp_path, tensors, GPT2_CONFIG), groups=groups, layers=layers
    )
    analysed = {name for parameter in analysis.table["parameter"] for name in parameter.split("+")}
    left = list(analysis.skipped["parameter"])
    assert len(left) == len(set(left))
    assert not analysed & set(left)
    assert analysed | set(left) == {name for name, tensor in tensors.items() if tensor.dim() >= 2}
    assert (analysis.skipped["reason"] != "").all()
    coverage = analysis.summary["coverage"]
    assert coverage["analysed"] == coverage["selected"] == len(analysis.table)
    assert coverage["not_selected"] + coverage["skipped"] == len(left)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_is_a_stated_partial_result(tmp_path, value):
    tensors = gpt2_tensors()
    quiet = weightscope.analyze(write_checkpoint(tmp_path / "quiet", tensors, GPT2_CONFIG)).table
    tensors["h.0.attn.c_attn.weight"][2, 9] = value  # column 9: the second row of K
    analysis = weightscope.analyze(write_checkpoint(tmp_path / "spoilt", tensors, GPT2_CONFIG))
    bad = analysis.table["status"] == "non_finite"
    assert set(analysis.table[bad]["group"]) == {"K", "QKV"}
    numbers = [name for name in quiet.columns if quiet[name].dtype.kind == "f"]
    assert analysis.table[bad][numbers].isna().all(axis=None)
    assert analysis.table[~bad][numbers].equals(quiet[~bad][numbers])
    assert not analysis.complete
    assert analysis.summary["coverage"]["analysed"] == 12
    assert [g["status"] for g in analysis.summary["groups"] if g["group"] == "K"] == [
        {"non_finite": 1, "ok": 1}
    ]


def test_zero_matrices(tmp_path):
    tensors = gpt2_tensors()
    tensors["h.0.mlp.c_fc.weight"].zero_()
    analysis = weightscope.analyze(write_checkpoint(tmp_path, tensors, GPT2_CONFIG), spectrum=True)
    row = analysis.table[analysis.table["status"] == "zero"].iloc[0]
    assert (row["frobenius_norm"], row["spectral_norm"]) == (0, 0)
    assert math.isnan(row["stable_rank"])
    assert math.isnan(row["effective_rank"])
    assert analysis.complete


def test_nothing_selected_is_an_empty_table(tmp_path):
    analysis = weightscope.analyze(write_checkpoint(tmp_path, {"0.weight": torch.randn(3, 4)}), spectrum=True)
    assert len(analysis.table) == len(analysis.spectra) == 0
    assert analysis.skipped["reason"].tolist() == ["group other"]
    assert analysis.save(tmp_path / "out")[0].name == "matrices.csv"
    with pytest.raises(SelectionError):
        analysis.plot()


def test_live_modules_without_a_config():
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
    analysis = weightscope.analyze(model, groups="all")
    assert analysis.table["parameter"].tolist() == ["0.weight", "2.weight"]
    assert analysis.table["checkpoint"].tolist() == ["Sequential"] * 2
    expected = [torch.linalg.matrix_norm(model[i].weight.detach().double(), 2).item() for i in (0, 2)]
    assert analysis.table["spectral_norm"].tolist() == pytest.approx(expected, rel=1e-6)


def test_a_module_on_the_way_to_training_is_untouched():
    model = torch.nn.Linear(5, 4)
    before = model.weight.clone()
    weightscope.analyze(model, groups="all", spectrum=True)
    assert torch.equal(model.weight, before)
    assert model.weight.requires_grad


@pytest.mark.parametrize(
    "options",
    [
        {"rtol": 1.0},
        {"rtol": 0.0},
        {"rtol": math.nan},
        {"epsilon": (2.0,)},
        {"epsilon": (0.0,)},
        {"groups": []},
    ],
    ids=str,
)
def test_options_out_of_range(options):
    with pytest.raises(OptionError):
        weightscope.analyze("demo", **options)


@pytest.mark.parametrize("source", [3, None, b"demo", ["demo"]], ids=str)
def test_sources_that_hold_no_weights(source):
    with pytest.raises(OptionError, match="Weights can be read from"):
        weightscope.analyze(source)


def test_arrays_that_are_no_tensors_are_not_passed_over():
    with pytest.raises(CheckpointFormatError, match="not a torch tensor"):
        weightscope.analyze({"a.weight": np.eye(4)}, groups="all")


def test_single_numbers_and_implied_spectra(tmp_path):
    analysis = weightscope.analyze(write_gpt2(tmp_path), layers=1, epsilon=0.25)
    assert set(analysis.table["layer"]) == {1}
    assert "epsilon_rank_0.25" in analysis.table
    assert len(analysis.spectra) > 0


def test_plot_and_label(tmp_path):
    analysis = weightscope.analyze(write_gpt2(tmp_path / "my-model"))
    assert analysis.plot("frobenius_norm").axes[0].get_title(loc="left") == "my-model: attention"
