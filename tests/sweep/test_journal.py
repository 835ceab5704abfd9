"""A run that is killed at any moment goes on, and its table is that of an undisturbed run, byte for byte."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import save_file

import weightscope
from tests.factories import gpt2_tensors, write_checkpoint, write_gpt2
from weightscope.checkpoint import open_checkpoint
from weightscope.errors import JournalMismatch, OptionError, OutputError
from weightscope.options import Options
from weightscope.report import JOURNAL_FILE
from weightscope.sweep.journal import Journal
from weightscope.sweep.plan import plan_sweep


def analyze(folder, journal, **options):
    return weightscope.analyze(folder, spectrum=True, journal=journal, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A checkpoint, its undisturbed table and spectra, and its complete journal."""
    folder = write_gpt2(tmp_path_factory.mktemp("gpt2"), layers=2)
    journal = folder.parent / JOURNAL_FILE
    analysis = analyze(folder, journal)
    return folder, analysis, journal.read_bytes()


def same(one, other):
    return one.table.to_csv(index=False) == other.table.to_csv(index=False) and one.spectra.equals(
        other.spectra
    )


@pytest.mark.parametrize("share", [i / 23 for i in range(24)])
def test_cut_anywhere(whole, tmp_path, share):
    folder, analysis, content = whole
    journal = tmp_path / JOURNAL_FILE
    journal.write_bytes(content[: round(share * len(content))])
    resumed = analyze(folder, journal, resume=True)
    assert same(resumed, analysis)
    assert journal.read_bytes() == content
    assert resumed.provenance["resumed"] <= content[: round(share * len(content))].count(b"\n")
    if share > 0.6:
        assert resumed.provenance["resumed"] > 0
        assert resumed.provenance["bytes"]["received"] < analysis.provenance["bytes"]["received"]


@pytest.mark.parametrize("line", [0, 1, 5])
def test_a_spoilt_line_and_what_follows_it_are_done_again(whole, tmp_path, line):
    folder, analysis, content = whole
    lines = content.splitlines(keepends=True)
    lines[line] = lines[line].replace(b"e", b"f", 1)
    journal = tmp_path / JOURNAL_FILE
    journal.write_bytes(b"".join(lines))
    assert same(analyze(folder, journal, resume=True), analysis)
    assert journal.read_bytes() == content


def test_without_a_journal_it_starts_one(whole, tmp_path):
    folder, analysis, content = whole
    resumed = analyze(folder, tmp_path / JOURNAL_FILE, resume=True)
    assert same(resumed, analysis)
    assert resumed.provenance["resumed"] == 0
    assert (tmp_path / JOURNAL_FILE).read_bytes() == content


def test_progress_starts_where_the_journal_ends(whole, tmp_path):
    folder, _, content = whole
    lines = content.splitlines(keepends=True)
    journal = tmp_path / JOURNAL_FILE
    journal.write_bytes(b"".join(lines[: len(lines) // 2]))
    seen = []
    analysis = analyze(
        folder,
        journal,
        resume=True,
        progress=lambda state: seen.append((state.done_bytes, state.total_bytes)),
    )
    assert seen[0][0] > analysis.provenance["bytes"]["selected"] // 4
    assert seen[-1] == (analysis.provenance["bytes"]["selected"],) * 2


@pytest.mark.parametrize(
    ("options", "named"),
    [({"rtol": 1e-5}, "rtol"), ({"layers": 0}, "layers"), ({"seed": 1}, "seed")],
)
def test_another_run_is_refused_and_its_journal_kept(whole, tmp_path, options, named):
    folder, _, content = whole
    journal = tmp_path / JOURNAL_FILE
    journal.write_bytes(content)
    with pytest.raises(JournalMismatch, match=f"another {named}"):
        analyze(folder, journal, resume=True, **options)
    assert journal.read_bytes() == content


def test_other_weights_are_refused(whole, tmp_path):
    _, _, content = whole
    folder = tmp_path / "other"
    write_gpt2(folder, layers=2)
    journal = tmp_path / JOURNAL_FILE
    journal.write_bytes(content)
    with pytest.raises(JournalMismatch, match="another"):
        analyze(folder, journal, resume=True)


def test_a_journal_in_use_is_left_alone(whole, tmp_path):
    folder, _, _ = whole
    path = tmp_path / JOURNAL_FILE
    book = Journal.open(path, {}, resume=False)
    content = path.read_bytes()
    with pytest.raises(JournalMismatch, match="Another run is writing"):
        analyze(folder, path)
    assert path.read_bytes() == content
    book.close()


def test_resume_needs_a_journal():
    with pytest.raises(OptionError, match="No journal"):
        weightscope.analyze("demo", resume=True)


def test_a_full_disk_keeps_what_there_is(whole, tmp_path, monkeypatch):
    folder, analysis, _ = whole
    journal, write, calls = tmp_path / JOURNAL_FILE, os.write, []

    def full(descriptor, data):
        calls.append(data)
        if len(calls) > 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OutputError, match=r"No space left.*--resume"):
        analyze(folder, journal)
    monkeypatch.undo()
    resumed = analyze(folder, journal, resume=True)
    assert same(resumed, analysis)
    assert resumed.provenance["resumed"] > 0


def test_the_rest_of_a_plan_is_the_plan():
    with open_checkpoint("demo") as checkpoint:
        plan = plan_sweep(checkpoint.matrices, checkpoint.tensors, budget=200_000)
        order = list(plan.matrices)
        for count in range(len(order) + 1):
            done = plan.whole_stacks(count)
            rest = plan.after(done)
            assert done <= count
            assert list(rest.matrices) == order[done:]
            for step in rest.steps:
                used = {part.tensor for s in step.stacks for m in s.matrices for part in m.slices}
                assert set(step.tensors) == used
        assert plan.after(0) == plan
        assert plan.after(len(order)).steps == ()


def test_identity_covers_every_option():
    """A new option must be in the journal's identity: through as_dict, or by name."""
    known = {"rtol", "seed"} | set(Options().as_dict())
    assert set(Options.__dataclass_fields__) <= known


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """Long enough to be killed on the way, with spectra that wait for one another."""
    folder = tmp_path_factory.mktemp("larger")
    tensors = gpt2_tensors(layers=24, width=192)
    return write_checkpoint(folder / "model", tensors, {"model_type": "gpt2", "n_layer": 24, "n_head": 4})


def command(folder, out, *more):
    return [
        sys.executable, "-m", "weightscope", "analyze", str(folder), "--out", str(out), "--spectrum",
        "--no-plots", "--quiet", *more,
    ]  # fmt: skip


def test_kill_minus_nine(larger, tmp_path):
    reference, out = tmp_path / "reference", tmp_path / "killed"
    subprocess.run(command(larger, reference), check=True, capture_output=True)
    kills = 0
    for lines in (2, 30, 61):
        process = subprocess.Popen(command(larger, out, "--resume"), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if (out / JOURNAL_FILE).exists() and (out / JOURNAL_FILE).read_bytes().count(b"\n") >= lines:
                process.send_signal(signal.SIGKILL)
                kills += process.wait() == -signal.SIGKILL
                break
            time.sleep(0.002)
    assert kills >= 1
    assert not (out / "matrices.csv").exists()
    done = subprocess.run(command(larger, out, "--resume"), check=True, capture_output=True, text=True)
    assert "from the journal of the interrupted run" in done.stdout
    for name in ("matrices.csv", "spectra.parquet", "skipped.csv", "summary.json"):
        assert (out / name).read_bytes() == (reference / name).read_bytes(), name
    assert not (out / JOURNAL_FILE).exists()


def test_interrupt_says_how_to_go_on(larger, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(larger, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if (out / JOURNAL_FILE).exists() and (out / JOURNAL_FILE).read_bytes().count(b"\n") >= 5:
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0.002)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted." in stderr
    assert "--resume" in stderr
    assert "Traceback" not in stderr


def test_numbers_survive_bit_for_bit(tmp_path):
    """Subnormal, huge, NaN and infinite values too."""
    weights = {
        "layers.0.mlp.fc1.weight": torch.full((3, 4), 1e-43),
        "layers.1.mlp.fc1.weight": 1e300 * torch.eye(3, dtype=torch.float64),
        "layers.2.mlp.fc1.weight": torch.tensor([[float("nan")]]),
        "layers.3.mlp.fc1.weight": torch.zeros(2, 2),
    }
    path = tmp_path / "model.safetensors"
    save_file(weights, path)
    first = analyze(path, tmp_path / JOURNAL_FILE)
    again = analyze(path, tmp_path / JOURNAL_FILE, resume=True)
    assert again.provenance["resumed"] == 4
    assert same(again, first)
