"""`weightscope train`: what it prints and writes, how it goes on, and all that can go wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from tests.training.sets import write_idx
from weightscope.cli.app import app
from weightscope.errors import (
    DataFormatError,
    DataNotFound,
    DeviceMemoryError,
    DeviceUnavailable,
    JournalMismatch,
    OptionError,
    OutputError,
    RecipeError,
    TrainingDiverged,
    WeightscopeError,
)
from weightscope.publish import only_run
from weightscope.training import follow
from weightscope.training.history import COLUMNS

# What a run writes beside its figure and its nets.
TABLES = {"history.parquet", "history.csv", "claims.json", "recipe.yaml", "provenance.json"}
SMALL = ("--size", "smoke", "--set", "draws=1", "--set", "steps=20", "--set", "records=2")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def train(*arguments):
    return CliRunner().invoke(app, ["train", *map(str, arguments)], catch_exceptions=False)


def refused(*arguments):
    with pytest.raises(WeightscopeError) as caught:
        train(*arguments)
    error = caught.value
    assert error.asked
    assert error.found
    assert error.advice
    return error


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Both commands at size `smoke`, with their output folders."""
    folder, found = tmp_path_factory.mktemp("done"), {}
    before = Path.cwd()
    os.chdir(folder)
    try:
        for name, arguments in (
            ("lambda", ["lambda"]),
            ("merge-synthetic", ["merge"]),
            ("merge-digits", ["merge", "--data", "digits"]),
        ):
            found[name] = (train(*arguments, "--size", "smoke"), folder / f"{name}-smoke")
    finally:
        os.chdir(before)
    return found


@pytest.mark.parametrize(
    ("name", "figure", "claims"),
    [
        ("lambda", "figure2", ["F2-trend", "F2-errors"]),
        ("merge-synthetic", "figure3", ["F3-different", "F3-conflicting", "F3-decay", "F3-rank"]),
        ("merge-digits", "figure5", ["F5-different", "F5-conflicting", "F5-decay", "F5-rank"]),
    ],
)
def test_what_is_written_and_printed(done, name, figure, claims):
    result, folder = done[name]
    assert result.exit_code == 0
    names = {path.name for path in folder.iterdir()}
    assert names == TABLES | {f"{figure}.png", f"{figure}.svg", "nets"}
    assert (folder / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    assert "<text" in (folder / f"{figure}.svg").read_text()
    table = pd.read_parquet(folder / "history.parquet")
    assert tuple(table.columns) == COLUMNS
    from_csv = pd.read_csv(folder / "history.csv", dtype={"layer": "Int64", "task": "Int64"})
    assert table["value"].tolist() == from_csv["value"].tolist()  # bit for bit
    written = json.loads((folder / "claims.json").read_text())
    assert [claim["id"] for claim in written if claim["id"] in claims] == claims
    for claim in written:
        for key in ("id", "claim", "verdict", "statistic", "value", "threshold", "interval", "draws"):
            assert key in claim
        assert claim["verdict"] in ("held", "not_held", "undecided")
        assert claim["id"] in result.stdout
    assert any(claim["control"] for claim in written)
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["status"] == "done"
    assert "weight_decay" in provenance["weight_decay"]
    assert len(provenance["draw_seeds"]) == provenance["settings"]["draws"]
    assert provenance["versions"]["torch"]


def test_the_nets_can_be_analysed(done, tmp_path):
    _, folder = done["merge-synthetic"]
    result = CliRunner().invoke(
        app,
        ["analyze", str(folder / "nets" / "different-merged.safetensors"), "--groups", "all", "--out", "out"],
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    found = pd.read_csv(tmp_path / "out" / "matrices.csv").set_index("parameter")["stable_rank"]
    history = pd.read_parquet(folder / "history.parquet")
    last = history[
        (history["step"] == history["step"].max())
        & (history["quantity"] == "stable_rank")
        & (history["net"] == "merged")
        & (history["arm"] == "different")
        & (history["weight_decay"] == 2.5e-2)
    ]
    assert len(last) == len(found) == 9
    for row in last.itertuples():
        name = f"draw_{row.draw}.layers.{row.layer - 1}.weight"
        assert found[name] == pytest.approx(row.value, rel=1e-6)


def test_the_recipe_that_is_written_gives_the_same_again(done, tmp_path):
    _, folder = done["merge-synthetic"]
    result = CliRunner().invoke(
        app, ["run", str(folder / "recipe.yaml"), "--out", "again", "--quiet"], catch_exceptions=False
    )
    assert result.exit_code == 0
    for name in ("history.csv", "claims.json", "figure3.svg", "nets/different-merged.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name
    setting = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert setting["size"] == "smoke"
    assert "sizes" not in setting


def test_run_knows_the_recipes_too(done, tmp_path):
    _, folder = done["lambda"]
    result = CliRunner().invoke(
        app, ["run", "paper_a/figure2", "--set", "size=smoke", "--set", "seed=0"], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert (tmp_path / "figure2" / "history.csv").read_bytes() == (folder / "history.csv").read_bytes()
    planned = CliRunner().invoke(app, ["run", "paper_a/figure5", "--dry-run"], catch_exceptions=False)
    assert "steps: 100000" in planned.stdout
    assert not (tmp_path / "figure5").exists()


def test_a_seed_changes_the_draws_and_a_setting_the_experiment(done, tmp_path):
    _, folder = done["merge-synthetic"]
    before = pd.read_parquet(folder / "history.parquet")
    train("merge", "--size", "smoke", "--seed", 1, "--out", "seed")
    assert pd.read_parquet("seed/history.parquet")["value"].tolist() != before["value"].tolist()
    result = train("merge", "--size", "smoke", "--merge", "average", "--set", "widths=[6, 4]", "--out", "set")
    provenance = json.loads(Path("set/provenance.json").read_text())
    assert provenance["settings"]["merge"] == "average"
    assert provenance["settings"]["widths"] == [6, 4]
    assert result.exit_code == 0


def test_results_that_are_there_are_kept_by_resume_and_replaced_without(tmp_path):
    train("merge", *SMALL)
    folder = tmp_path / "merge-synthetic-smoke"
    before = content(folder)
    result = train("merge", *SMALL, "--resume")
    assert "already" in result.stdout
    assert "F3-different" in result.stdout
    assert content(folder) == before
    (folder / "nets" / "of-an-earlier-run.safetensors").write_bytes(b"")
    train("merge", *SMALL, "--set", "arms=[different]")
    after = content(folder)
    assert "nets/of-an-earlier-run.safetensors" not in after
    assert "nets/conflicting-task1.safetensors" not in after
    error = refused("merge", *SMALL, "--resume")
    assert isinstance(error, JournalMismatch)
    assert "setting.arms" in error.found
    assert content(folder) == after


def test_strict_minds_claims_that_are_not_held():
    assert train("merge", *SMALL, "--strict").exit_code == 3


COMMAND = [
    sys.executable, "-m", "weightscope", "train", "merge", "--size", "smoke", "--set", "steps=2000000",
    "--out", "out",
]  # fmt: skip


def test_ctrl_c_says_how_to_go_on(tmp_path):
    """From a state written after a few seconds; what was in the folder is untouched."""
    code = (
        "from weightscope.training import follow; follow._BETWEEN_STATES = 0.2;"
        f"import sys; sys.argv = {['weightscope', *COMMAND[3:]]!r};"
        "from weightscope.cli import main; main()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    state = tmp_path / "out" / "training.state"
    while not state.exists():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume goes on from" in stderr
    assert "Traceback" not in stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"training.state"}
    assert isinstance(refused("merge", "--size", "smoke", "--out", "out", "--resume"), JournalMismatch)


def test_a_run_goes_on_from_its_state(tmp_path, monkeypatch):
    monkeypatch.setattr(follow, "_BETWEEN_STATES", 0.0)
    monkeypatch.setattr("weightscope.training.experiments.decay_sweep.DecayNets.at_once", 2)
    train("lambda", "--size", "smoke", "--out", "whole")
    from weightscope.training.experiments import decay_sweep

    epochs = decay_sweep.DecayNets.advance

    def stop(self, count):
        if self.steps > 15:
            raise KeyboardInterrupt
        epochs(self, count)

    monkeypatch.setattr(decay_sweep.DecayNets, "advance", stop)
    interrupted = train("lambda", "--size", "smoke", "--out", "parts")
    assert interrupted.exit_code == 130
    monkeypatch.setattr(decay_sweep.DecayNets, "advance", epochs)
    assert train("lambda", "--size", "smoke", "--out", "parts", "--resume").exit_code == 0
    for name in ("history.csv", "claims.json", "nets/frequency-10-decay-0.001.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "parts" / "training.state").exists()


def test_divergence_keeps_the_history_and_no_other_result(tmp_path):
    train("merge", *SMALL, "--out", "out")
    error = refused("merge", *SMALL, "--set", "initial_scale=1e13", "--set", "steps=3000", "--out", "out")
    assert isinstance(error, TrainingDiverged)
    assert "at step" in error.found
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir() if path.is_file()} == TABLES - {"claims.json"}
    assert not list((out / "nets").iterdir())
    assert len(pd.read_csv(out / "history.csv"))
    assert json.loads((out / "provenance.json").read_text())["status"] == "diverged"


def test_a_folder_with_other_columns(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    pd.DataFrame({"a": [1], "b": [2]}).to_parquet(folder / "train-00000-of-00001.parquet")
    error = refused("merge", "--data", folder, *SMALL)
    assert isinstance(error, DataFormatError)
    assert not list(tmp_path.glob("merge-*"))


def test_a_disk_that_is_full_leaves_what_was_there(tmp_path, monkeypatch):
    train("merge", *SMALL, "--out", "out")
    before = content(tmp_path / "out")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("weightscope.recipes.training.write_claims", full)
    error = refused("merge", *SMALL, "--out", "out", "--seed", 2)
    assert isinstance(error, OutputError)
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (["merge", "--size", "quic"], RecipeError, "did you mean 'quick'?"),
        (["merge", "--set", "widt=3"], RecipeError, "did you mean 'widths'?"),
        (["lambda", "--set", "widt=3"], RecipeError, "did you mean 'width'?"),
        (["merge", "--set", "samples=many"], RecipeError, "a whole number"),
        (["merge", "--set", "widths=3"], RecipeError, "a list"),
        (["merge", "--set", "samples"], RecipeError, "key=value"),
        (["merge", "--set", "weight_decay=2"], RecipeError, "1 − ηλ"),
        (["lambda", "--set", "step_size=200"], RecipeError, "1 − ηλ"),
        (["merge", "--set", "thresholds.share_of_draws=8"], RecipeError, "a share of the draws"),
        (["merge", "--set", "thresholds.ratoi=8"], RecipeError, "did you mean 'ratio'?"),
        (["merge", "--set", "samples=0"], RecipeError, "1 or more"),
        (["lambda", "--set", "batch_size=2000"], RecipeError, "samples = 1000"),
        (["merge", "--merge", "mean"], RecipeError, "'sum' or 'average'"),
        (["merge", "--set", "merge=average"], OptionError, "Write --merge average"),
        (["lambda", "--set", "setting.seed=3"], OptionError, "Write --seed 3"),
        (["merge", "--seed", "-1"], OptionError, "between 0"),
        (["merge", "--data", "fashion"], DataNotFound, "known by name"),
        (["merge", "--data", "synthetic", "--data-dir", "x"], OptionError, "need no folder"),
        (["merge", "--data", "mnist", "--data-dir", "nowhere"], DataNotFound, "nowhere"),
        (["merge", "--data", "digits", "--set", "samples=2000"], OptionError, "1,437"),
        (["merge", "--device", "tpu"], OptionError, "'tpu'"),
        (["merge", "--device", "cuda:9"], DeviceUnavailable, "CUDA devices"),
        (["merge", "--set", "widths=[2000000, 100000]"], DeviceMemoryError, "GiB are free"),
        (["merge", "--data", "null"], DataNotFound, "'null'"),
        (["merge", "--merge", "null"], RecipeError, "'sum' or 'average'"),
        (["merge", "--set", "widht=null"], RecipeError, "did you mean 'widths'?"),
        (["merge", "--set", "records=1000000"], RecipeError, "10,000"),
        (["merge", "--set", f"steps={'9' * 39}"], RecipeError, "1,000,000,000,000"),
        (["lambda", "--set", "hidden_layers=1000000000000"], RecipeError, "1,000"),
        (["lambda", "--set", "frequencies=[]"], RecipeError, "1 to 20"),
        (["lambda", "--set", "frequencies=[10, .nan]"], RecipeError, "each is positive"),
        (["lambda", "--set", "frequencies=[-1]"], RecipeError, "positive"),
        (["merge", "--set", "thresholds.merged_rank=[1.6, 0.67]"], RecipeError, "a range"),
        (["merge", "--set", "thresholds.ratio=.nan"], RecipeError, "number from 0"),
        (["lambda", "--set", "thresholds.fewest_draws=0"], RecipeError, "number from 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_bad_input_is_said_and_nothing_is_written(tmp_path, arguments, kind, words):
    error = refused(*arguments, "--out", "out")
    assert isinstance(error, kind)
    assert words in str(error)
    assert not (tmp_path / "out").exists()


def test_settings_that_print_alike_are_not_one(tmp_path):
    """Each λ and frequency has its nets and its rows, however close; of those given twice there is one."""
    near, twice = "[0, 0.001, 0.001000000001]", "[1, 1, 1.0000001]"
    small = ("--size", "smoke", "--set", "draws=1", "--set", "epochs=1", "--set", "records=2")
    train("lambda", *small, "--set", f"weight_decays={near}", "--set", f"frequencies={twice}", "--out", "out")
    assert len(list((tmp_path / "out" / "nets").iterdir())) == 6
    train("merge", *SMALL, "--set", "weight_decays=[0.02, 0.0200000001]", "--set",
          "arms=[different, different]", "--out", "more")  # fmt: skip
    assert len(list((tmp_path / "more" / "nets").iterdir())) == 7
    for folder in ("out", "more"):
        history = pd.read_parquet(tmp_path / folder / "history.parquet")
        assert not history.duplicated([name for name in COLUMNS if name != "value"]).any()


def test_a_name_that_is_too_long(tmp_path):
    assert isinstance(refused("merge", *SMALL, "--out", "x" * 300), OutputError)


def test_a_folder_where_the_state_goes_is_said_before_the_training(tmp_path):
    (tmp_path / "out" / "training.state").mkdir(parents=True)
    assert "A folder stands there" in str(refused("merge", *SMALL, "--out", "out"))
    assert (tmp_path / "out" / "training.state").is_dir()


def test_a_second_run_into_the_same_folder_is_refused(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    with only_run(folder):
        assert "Another run" in str(refused("merge", *SMALL, "--out", "out"))
    assert not list(folder.iterdir())
    assert train("merge", *SMALL, "--out", "out").exit_code == 0


def test_what_a_kill_left_half_written_goes_with_the_state(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".training.state.partial").write_bytes(b"half")
    train("merge", *SMALL, "--out", "out")
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_other_images_in_the_folder_are_not_taken_for_the_ones_of_then(tmp_path):
    arguments = ("merge", "--data", "mine", *SMALL, "--set", "samples=4", "--resume")
    for value, words in ((1, "Their spectra"), (1, "already"), (2, "its images were others")):
        generator = np.random.default_rng(value)
        pixels = generator.integers(1, 255, (12, 5, 5), dtype=np.uint8)
        (tmp_path / "mine").mkdir(exist_ok=True)
        write_idx(tmp_path / "mine", pixels, np.arange(12) % 10)
        assert words in (train(*arguments).stdout if value == 1 else refused(*arguments).found)


def test_out_is_a_file(tmp_path):
    (tmp_path / "out").write_text("mine")
    assert isinstance(refused("merge", *SMALL, "--out", "out"), OutputError)
    assert (tmp_path / "out").read_text() == "mine"
