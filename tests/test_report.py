"""The output folder: whole or untouched."""

import json
import math

import pandas as pd
import pytest
from typer.testing import CliRunner

import weightscope
from tests.factories import write_checkpoint, write_gpt2
from tests.families.test_experts import MIXTRAL, mixtral
from weightscope import report
from weightscope.cli.app import app
from weightscope.errors import OutputError
from weightscope.report import REPORT_FILES


@pytest.fixture
def analysis(tmp_path):
    folder = write_checkpoint(tmp_path / "model", mixtral(layers=3), MIXTRAL)
    return weightscope.analyze(folder, spectrum=True)


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_file_is_there_and_says_the_same(analysis, tmp_path):
    files = analysis.save(tmp_path / "out", schema="weightwatcher")
    assert [path.name for path in files] == list(REPORT_FILES)
    assert set(content(tmp_path / "out")) == set(REPORT_FILES)
    for name in ("matrices.csv", "matrices.parquet"):
        pd.testing.assert_frame_equal(weightscope.read_table(tmp_path / "out" / name), analysis.table)
    assert json.loads((tmp_path / "out/summary.json").read_text()) == analysis.summary
    provenance = json.loads((tmp_path / "out/provenance.json").read_text())
    assert set(provenance) >= {
        "checkpoint", "revision", "files", "versions", "device", "threads", "methods", "tolerances", "seed",
        "seconds", "bytes", "requests",
    }  # fmt: skip
    seconds = provenance["seconds"]
    assert set(seconds) == {"read", "cast", "solve", "write", "total"}
    parts = sum(value for name, value in seconds.items() if name != "total")
    assert 0 < seconds["write"] < seconds["total"]
    assert parts <= seconds["total"] * (1 + 1e-9)
    spectra = pd.read_parquet(tmp_path / "out/spectra.parquet")
    norms = spectra.groupby(["layer", "group", "expert"])["singular_value"].apply(
        lambda values: math.sqrt((values**2).sum())
    )
    for row in analysis.table.to_dict("records"):
        assert norms[(row["layer"], row["group"], row["expert"])] == pytest.approx(
            row["frobenius_norm"], rel=1e-12
        )


def test_the_table_is_the_same_byte_for_byte(tmp_path):
    folder = write_gpt2(tmp_path / "model")
    for out in ("one", "two"):
        weightscope.analyze(folder).save(tmp_path / out)
    for name in ("matrices.csv", "skipped.csv", "summary.json", "stable_rank.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_what_an_earlier_run_left_is_replaced_and_strangers_stay(analysis, tmp_path):
    out = tmp_path / "out"
    analysis.save(out, schema="weightwatcher")
    (out / "notes.txt").write_text("mine")
    weightscope.analyze(tmp_path / "model").save(out, plots=False)
    expected = (
        set(REPORT_FILES)
        - {"spectra.parquet", "weightwatcher.csv"}
        - {n for n in REPORT_FILES if n.endswith(("png", "svg"))}
    )
    assert set(content(out)) == expected | {"notes.txt"}


@pytest.mark.parametrize("failing", ["write_csv", "_write_json", "save_figure"])
@pytest.mark.parametrize(
    "problem", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "^C"]
)
def test_a_failure_leaves_the_old_report(analysis, tmp_path, monkeypatch, failing, problem):
    out = tmp_path / "out"
    analysis.save(out)
    before = content(out)

    def fail(*_, **__):
        raise problem

    monkeypatch.setattr(report, failing, fail)
    with pytest.raises((OutputError, KeyboardInterrupt)):
        analysis.save(out)
    assert content(out) == before


def test_what_a_killed_run_left_is_cleared_away(analysis, tmp_path):
    out = tmp_path / "out"
    (out / ".weightscope-killed").mkdir(parents=True)
    analysis.save(out)
    assert set(content(out)) == set(REPORT_FILES) - {"weightwatcher.csv"}


def test_a_folder_that_cannot_be_made(analysis, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="Not a directory"):
        analysis.save(tmp_path / "file" / "out")


def test_nothing_in_layers_means_no_pictures(tmp_path):
    files = weightscope.analyze(write_gpt2(tmp_path / "model"), groups=["embedding"]).save(tmp_path / "out")
    assert not [path for path in files if path.suffix in (".png", ".svg")]
    assert (tmp_path / "out/matrices.csv").exists()


def test_results_of_two_kinds_are_not_mixed(tmp_path):
    """Each has a provenance of its own, and there is one file of that name."""
    both = CliRunner()
    trained = ["train", "lambda", "--size", "smoke", "--quiet", "--out"]
    assert both.invoke(app, ["analyze", "demo", "--out", str(tmp_path / "report")]).exit_code == 0
    assert both.invoke(app, [*trained, str(tmp_path / "trained")]).exit_code == 0
    for folder, command in (("report", trained), ("trained", ["analyze", "demo", "--out"])):
        before = content(tmp_path / folder) if folder == "report" else sorted((tmp_path / folder).iterdir())
        found = both.invoke(app, [*command, str(tmp_path / folder)])
        assert isinstance(found.exception, OutputError)
        assert "one provenance cannot be that of both" in str(found.exception)
        now = content(tmp_path / folder) if folder == "report" else sorted((tmp_path / folder).iterdir())
        assert now == before
