"""The commands as a user types them: what is printed, where, and the exit code."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import weightscope
from tests.factories import GPT2_CONFIG, gpt2_tensors, write_checkpoint, write_gpt2
from weightscope.cli.analyze import EXAMPLES
from weightscope.cli.app import app


def run(*arguments, **options):
    return CliRunner().invoke(
        app, [str(argument) for argument in arguments], catch_exceptions=False, **options
    )


def test_analyze_prints_the_result_on_stdout_alone(tmp_path):
    done = run("analyze", write_gpt2(tmp_path, layers=3))
    assert done.exit_code == 0
    assert done.stderr == ""
    for expected in (
        "stable rank", "Gaussian", "spectral norm", "Frobenius norm", "harmonic mean of stable rank",
        "norm preservation", "21 of 21 selected matrices analysed; 2 tensors not selected; 3 skipped",
        "Nothing was written",
    ):  # fmt: skip
        assert expected in done.stdout, expected


@pytest.mark.parametrize("columns", ["80", "60", "200"])
def test_no_cell_of_the_table_is_cut_at_80_columns(tmp_path, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    done = run("analyze", write_gpt2(tmp_path, layers=3))
    assert "…" not in done.stdout
    heading = 3 if columns == "60" else 2  # in two lines where there is little width
    assert [line.split()[0] for line in done.stdout.splitlines()[heading + 2 : heading + 9]] == [
        "Q", "K", "V", "O", "QKV", "M1", "M2",
    ]  # fmt: skip


def test_out_names_the_files(tmp_path):
    folder = write_gpt2(tmp_path / "model")
    done = run("analyze", folder, "--out", tmp_path / "out", "--spectrum")
    for path in (tmp_path / "out").iterdir():
        assert path.name in done.stdout
    done = run("analyze", folder, "--out", tmp_path / "plain", "--no-plots")
    assert {path.suffix for path in (tmp_path / "plain").iterdir()} == {".csv", ".parquet", ".json"}


def test_json_is_one_document_with_the_same_content(tmp_path):
    folder = write_gpt2(tmp_path / "model")
    done = run("analyze", folder, "--json", "--out", tmp_path / "out")
    document = json.loads(done.stdout)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {name: document[name] for name in summary} == summary
    assert len(document["files"]) == len(list((tmp_path / "out").iterdir()))
    assert document["coverage"]["selected"] == 14


def test_notes_and_guesses_go_to_stderr_and_quiet_silences_them(tmp_path):
    folder = write_checkpoint(tmp_path, gpt2_tensors(), {"model_type": "new"})
    done = run("analyze", folder)
    assert "not registered" in done.stderr
    assert "guess: h.{layer}.mlp.c_fc.weight -> M1 (transposed)" in done.stderr
    assert run("analyze", folder, "--quiet").stderr == ""


def test_strict_turns_a_partial_result_into_exit_3(tmp_path):
    tensors = gpt2_tensors()
    tensors["h.1.mlp.c_fc.weight"][0, 0] = torch.nan
    folder = write_checkpoint(tmp_path, tensors, GPT2_CONFIG)
    done = run("analyze", folder)
    assert done.exit_code == 0
    assert "13 of 14 selected matrices analysed" in done.stdout
    assert "non_finite: h.1.mlp.c_fc.weight" in done.stdout
    assert run("analyze", folder, "--strict").exit_code == 3
    assert run("analyze", write_gpt2(tmp_path / "good"), "--strict").exit_code == 0


def test_strict_takes_nothing_selected_for_incomplete(tmp_path):
    assert run("analyze", write_gpt2(tmp_path), "--groups", "G").exit_code == 0
    assert run("analyze", write_gpt2(tmp_path), "--groups", "G", "--strict").exit_code == 3


def test_epsilon_implies_the_spectrum(tmp_path):
    folder = write_gpt2(tmp_path / "model")
    run("analyze", folder, "--epsilon", "0.5,1e-4", "--out", tmp_path / "out", "--no-plots")
    header = (tmp_path / "out" / "matrices.csv").read_text().splitlines()[0]
    assert "epsilon_rank_0.5,epsilon_rank_0.0001" in header
    assert (tmp_path / "out" / "spectra.parquet").exists()


def test_the_schema_of_weightwatcher_is_one_more_file_and_implies_the_spectrum(tmp_path):
    folder = write_gpt2(tmp_path / "model")
    done = run("analyze", folder, "--schema", "weightwatcher", "--out", tmp_path / "out", "--no-plots")
    assert done.exit_code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "matrices.csv", "matrices.parquet", "summary.json", "skipped.csv", "spectra.parquet",
        "weightwatcher.csv", "provenance.json",
    }  # fmt: skip
    assert "weightwatcher.csv" in done.stdout
    run("analyze", folder, "--spectrum", "--out", tmp_path / "plain", "--no-plots")
    plain, other = (
        pd.read_csv(tmp_path / out / "matrices.csv").drop(columns="checkpoint") for out in ("plain", "out")
    )
    pd.testing.assert_frame_equal(plain, other)
    document = json.loads(run("analyze", folder, "--dry-run", "--json", "--schema", "weightwatcher").stdout)
    assert document["read_bytes"] > 0


def test_dry_run_reads_no_weight(tmp_path):
    folder = write_gpt2(tmp_path / "model")
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: -20 * 8] + b"\xff" * 160)  # NaNs that a run would state
    done = run("analyze", folder, "--dry-run")
    assert "14 matrices from 8 tensors" in done.stdout
    assert "an estimate" in done.stdout
    document = json.loads(run("analyze", folder, "--dry-run", "--json", "--spectrum").stdout)
    assert document["read_bytes"] == 2 * 4 * (8 * 24 + 8 * 8 + 2 * 8 * 32)
    assert document["estimated_seconds"] > 0
    assert not (tmp_path / "out").exists()


def test_inspect(tmp_path):
    done = run("inspect", write_gpt2(tmp_path, shards=2))
    for expected in (
        "gpt2, GPT2LMHeadModel",
        "layers           2",
        "h.*.attn.c_attn.weight",
        "shards           2",
    ):
        assert expected in done.stdout, expected


def test_families(tmp_path):
    listed = run("families").stdout.splitlines()
    assert [line.split()[0] for line in listed] == weightscope.list_families()
    phi3 = next(line.split() for line in listed if line.startswith("phi3 "))
    assert phi3[1:] == ["Q", "K", "V", "O", "QKV", "M1", "G", "M2", "embedding", "unembedding"]
    assert "transposed: true" in run("families", "show", "gpt2").stdout


def test_plot_compares_tables(tmp_path):
    tables = []
    for name in ("one", "two"):
        run("analyze", write_gpt2(tmp_path / name), "--out", tmp_path / f"out-{name}", "--no-plots")
        tables.append(tmp_path / f"out-{name}" / "matrices.csv")
    for ending in ("png", "svg", "pdf"):
        out = tmp_path / f"figure.{ending}"
        assert run("plot", *tables, "--out", out).stdout.strip() == str(out)
        assert out.stat().st_size > 5000
    svg = (tmp_path / "figure.svg").read_text()
    assert ">one</text>" in svg
    assert ">two</text>" in svg
    assert run("plot", *tables, "--quantity", "max_abs", "--out", tmp_path / "q.png").exit_code == 0


def test_the_examples_of_the_help_parse(monkeypatch):
    """Every example shown is a valid command line: only its folder is not there."""
    lines = [line.strip() for line in EXAMPLES.splitlines() if line.strip().startswith("weightscope")]
    assert len(lines) == 5
    for line in lines:
        done = subprocess.run(
            [sys.executable, "-m", *line.split()],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        assert done.returncode in (0, 1), done.stderr
        assert done.returncode == 0 or done.stderr.startswith("CheckpointNotFound: ")


def test_version():
    assert run("--version").stdout.startswith("weightscope 0.")


def test_no_arguments_is_help_and_usage_errors_exit_2():
    assert "Commands" in run().stdout
    assert run("analyze").exit_code == 2
    assert run("analyze", "demo", "--nonsense").exit_code == 2
    assert run("analyze", "demo", "--rtol", "x").exit_code == 2
