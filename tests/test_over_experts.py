"""Experts in the summary, the report, the plots and on the terminal: many rows, few lines."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import weightscope
from tests.factories import write_checkpoint
from tests.families.test_experts import EXPERTS, MIXTRAL, mixtral
from weightscope.cli.app import app
from weightscope.over_experts import COLUMNS, expert_kind, over_experts
from weightscope.plots import plot_quantity


@pytest.fixture(scope="module")
def analysis():
    return weightscope.analyze(mixtral(), family="mixtral", groups="all")


def test_mean_and_spread_are_those_of_the_rows(analysis):
    experts = over_experts(analysis.table)
    assert list(experts.columns) == [column.name for column in COLUMNS]
    assert len(experts) == 2 * 3
    for row in experts.to_dict("records"):
        mine = analysis.table[
            (analysis.table["layer"] == row["layer"]) & (analysis.table["group"] == row["group"])
        ]
        assert row["experts"] == EXPERTS == len(mine)
        for name in ("stable_rank", "spectral_norm", "frobenius_norm"):
            values = mine[name].to_numpy()
            expected = [values.mean(), np.std(values), values.min(), values.max()]
            found = [row[f"{name}_{what}"] for what in ("mean", "std", "min", "max")]
            assert found == pytest.approx(expected, rel=1e-12)


def test_a_table_without_experts_has_none():
    analysis = weightscope.analyze("demo", groups="Q")
    assert analysis.experts.empty
    assert set(expert_kind(analysis.table)) == {""}


def test_those_without_numbers_are_left_out(analysis):
    table = analysis.table.copy()
    table.loc[table["expert"] == "0", "status"] = "non_finite"
    assert set(over_experts(table)["experts"]) == {EXPERTS - 1}


def test_shared_dense_and_numbered_ones_are_summarised_apart(analysis):
    shared = analysis.table[analysis.table["group"] == "M1"].head(1).assign(expert="shared")
    dense = shared.assign(expert="", layer=7)
    table = pd.concat([analysis.table, shared, dense], ignore_index=True)
    entries = {
        entry["expert"]: entry
        for entry in weightscope.summary.summarise(table)["groups"]
        if entry["group"] == "M1"
    }
    assert {kind: (e["matrices"], e["layers"], e["experts"]) for kind, e in entries.items()} == {
        "numbered": (2 * EXPERTS, 2, EXPERTS),
        "shared": (1, 1, 0),
        "": (1, 1, 0),
    }


def test_the_plot_has_the_means_and_nine_tenths_of_the_experts(analysis):
    _, axes = plot_quantity({"model": analysis.table}, "stable_rank").axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    experts = analysis.experts
    for group in ("M1", "G", "M2"):
        rows = experts[experts["group"] == group]
        assert lines[group].get_ydata() == pytest.approx(rows["stable_rank_mean"].to_numpy())
        each = analysis.table[analysis.table["group"] == group].groupby("layer")["stable_rank"]
        thin = [
            line.get_ydata()
            for line in axes.get_lines()
            if line.get_label().startswith("_end") and line.get_color() == lines[group].get_color()
        ]
        expected = [each.quantile(0.05), each.quantile(0.95)]
        np.testing.assert_allclose(np.sort(thin, axis=0), expected)


def test_report_and_terminal(tmp_path):
    folder = write_checkpoint(tmp_path / "model", mixtral(), MIXTRAL)
    found = CliRunner().invoke(app, ["analyze", str(folder), "--out", str(tmp_path / "out")])
    assert found.exit_code == 0, found.output
    assert "M1 (3 experts)" in found.output
    assert "over layers and experts" in found.output
    assert len(pd.read_csv(tmp_path / "out" / "experts.csv")) == 6
    inspected = CliRunner().invoke(app, ["inspect", str(folder)])
    assert " M1 (experts) " in inspected.output
    assert weightscope.inspect(folder).experts == EXPERTS
    # A report of another model into the same folder leaves no experts behind.
    assert CliRunner().invoke(app, ["analyze", "demo", "--out", str(tmp_path / "out")]).exit_code == 0
    assert not (tmp_path / "out" / "experts.csv").exists()


def test_weightwatchers_columns_name_each_expert_of_one_tensor():
    stacked = {
        "model.layers.0.self_attn.o_proj.weight": mixtral()["model.layers.0.self_attn.o_proj.weight"],
        "model.layers.0.mlp.experts.down_proj": np.random.default_rng(0).normal(size=(3, 8, 5)),
    }
    import torch

    tensors = {name: torch.as_tensor(value) for name, value in stacked.items()}
    names = weightscope.analyze(tensors, family="mixtral", spectrum=True).weightwatcher()["name"]
    assert [name.rpartition("experts.")[2] for name in names if "experts" in name] == [
        "down_proj[0]", "down_proj[1]", "down_proj[2]",
    ]  # fmt: skip
