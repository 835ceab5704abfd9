"""`weightscope analyze org/name`: what a user of the Hub sees, and what a failure leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants as constants
import pandas as pd
import pytest

from tests.factories import write_gpt2
from weightscope.cli import main
from weightscope.report import JOURNAL_FILE
from weightscope.sweep import memory


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line in this process."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["weightscope", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        return SimpleNamespace(exit_code=caught.value.code or 0, stderr=capsys.readouterr().err)

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_gpt2(tmp_path_factory.mktemp("cli") / "gpt2", layers=6, width=96, shards=2)


@pytest.fixture
def repo(hub, folder):
    return hub.add("org/gpt", {path.name: path for path in folder.iterdir()})


def table(out):
    return pd.read_csv(out / "matrices.csv").drop(columns=["checkpoint", "revision"])


@pytest.mark.parametrize("way", ["--stream", "--cache"])
def test_the_numbers_are_those_of_the_folder(way, run, repo, folder, tmp_path):
    assert run("analyze", folder, "--out", tmp_path / "local", "--no-plots").exit_code == 0
    done = run("analyze", "org/gpt", way, "--out", tmp_path / "out", "--spectrum", "--no-plots")
    assert done.exit_code == 0, done.stderr
    pd.testing.assert_frame_equal(
        table(tmp_path / "out")[["layer", "group", "frobenius_norm"]],
        table(tmp_path / "local")[["layer", "group", "frobenius_norm"]],
    )
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert provenance["revision"] == repo.commit
    assert provenance["checkpoint"] == "org/gpt"
    assert {file["etag"] for file in provenance["files"]} == {
        entry.etag for entry in repo.at("main").files.values() if entry.name.endswith(".safetensors")
    }
    streamed = way == "--stream"
    assert bool(provenance["requests"] > 3) == streamed
    received, selected = provenance["bytes"]["received"], provenance["bytes"]["selected"]
    assert selected <= received <= 1.01 * selected + 2 * 65536


def test_inspect_and_a_dry_run_read_headers_alone(run, repo, hub):
    for command in (["inspect"], ["analyze", "--dry-run"]):
        hub.stats.reset()
        done = run(*command, "org/gpt")
        assert done.exit_code == 0
        assert hub.stats.bytes_sent("storage") <= 2 * 65536


def test_verify_needs_whole_files(run, repo, tmp_path):
    refused = run("analyze", "org/gpt", "--verify")
    assert refused.exit_code == 1
    assert "--cache" in refused.stderr
    done = run("analyze", "org/gpt", "--cache", "--verify", "--out", tmp_path, "--no-plots")
    assert done.exit_code == 0
    provenance = json.loads((tmp_path / "provenance.json").read_text())
    assert {file["checked"] for file in provenance["files"]} == {"digest"}


def test_a_misspelt_path_is_told_to_be_no_folder(run, hub, monkeypatch):
    said = "and there is no such folder here."
    assert said in run("analyze", "mdls/llama").stderr
    assert said not in run("analyze", "hf://mdls/llama").stderr
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert said in run("analyze", "mdls/llama").stderr


@pytest.mark.parametrize("connections", ["0", "65"])
def test_a_number_of_connections_out_of_range(connections, run, repo):
    done = run("analyze", "org/gpt", "--connections", connections)
    assert done.exit_code == 1
    assert "Between 1 and 64" in done.stderr


@pytest.mark.usefixtures("hasty")
def test_a_final_failure_leaves_a_journal_from_which_it_goes_on(
    run, repo, hub, folder, tmp_path, monkeypatch
):
    """What is done is not read again, and the table is that of a run nobody disturbed."""
    monkeypatch.setattr(memory, "DEFAULT_BUDGET", 200_000)  # a dozen steps
    quiet = tmp_path / "quiet"
    assert run("analyze", "org/gpt", "--out", quiet, "--no-plots").exit_code == 0
    out = tmp_path / "out"
    second = "model-00002-of-00002.safetensors"
    with hub.fault("status", code=502, times=None, match=second, after=1):
        done = run("analyze", "org/gpt", "--out", out, "--no-plots")
    assert done.exit_code == 1
    assert second in done.stderr
    assert "6 tries" in done.stderr
    assert "--resume" in done.stderr
    assert [path.name for path in out.iterdir()] == [JOURNAL_FILE]
    hub.stats.reset()
    done = run("analyze", "org/gpt", "--out", out, "--no-plots", "--resume")
    assert done.exit_code == 0, done.stderr
    assert (out / "matrices.csv").read_bytes() == (quiet / "matrices.csv").read_bytes()
    resumed = json.loads((out / "provenance.json").read_text())["resumed"]
    assert resumed > 0
    assert hub.stats.bytes_sent("storage") < 0.75 * sum(path.stat().st_size for path in folder.iterdir())


def test_ctrl_c_ends_a_stream_at_once(repo, hub, tmp_path):
    hub.shape(bytes_per_second_per_connection=20_000)
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home")}
    process = subprocess.Popen(
        [sys.executable, "-m", "weightscope", "analyze", "org/gpt", "--out", str(tmp_path / "out")],
        env={**environment, "HF_HUB_DISABLE_TELEMETRY": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    limit = time.monotonic() + 60
    while not any(r.origin == "storage" and r.range != "bytes=0-65535" for r in hub.stats.requests):
        assert time.monotonic() < limit
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    try:
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert time.monotonic() - sent < 5
    assert process.returncode == 130
    assert "Interrupted." in errors
    assert "Traceback" not in errors
    assert not list(Path(constants.HF_HUB_CACHE).glob("*"))
