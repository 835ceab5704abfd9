"""Matrices larger than the memory for them: read in blocks, each byte once, with the same numbers."""

import json
import os
import signal
import subprocess
import sys
import time
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import weightscope
from tests import oracles
from tests.benchmarks.measure_streamed import NAME, least_memory, measured
from tests.factories import gpt2_tensors, write_checkpoint
from weightscope.checkpoints.header import TensorInfo
from weightscope.cli.app import app
from weightscope.errors import DeviceMemoryError, JournalMismatch
from weightscope.estimate import estimate
from weightscope.families.spec import Group
from weightscope.options import Options
from weightscope.report import JOURNAL_FILE
from weightscope.spectra.numbers import SpectralOptions
from weightscope.sweep import streaming
from weightscope.sweep.memory import Needs, fit, parse_memory, plan_bytes
from weightscope.sweep.plan import plan_sweep
from weightscope.sweep.run import run_sweep
from weightscope.sweep.streamed import rows_within
from weightscope.sweep.streaming import blocks_of, gram_sizes, stream_of

CPU = torch.device("cpu")
RTOL = 1e-6
EMBEDDING = {"model_type": "llama"}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """So that small matrices have several blocks."""
    monkeypatch.setattr(streaming, "BLOCK_BYTES", 30_000)
    monkeypatch.setattr(streaming, "PIECE_ROWS", 16)
    monkeypatch.setattr(streaming, "_PIECE_BYTES", 128)


def all_streamed(checkpoint, groups=None):
    """A plan in which every matrix is read in blocks."""
    matrices = [m for m in checkpoint.matrices if groups is None or m.group in groups]
    plan = plan_sweep(matrices, checkpoint.tensors, budget=1)
    streams = {info: stream_of(step) for step in plan.steps for info in step.tensors}
    return plan_sweep(matrices, checkpoint.tensors, streams=streams)


def solved(plan, source, **options):
    found = run_sweep(plan, source, device=CPU, options=SpectralOptions(**options))
    return {matrix.sort_key: numbers for matrix, numbers, _ in found}


def assert_alike(found, expected, *, rel=1e-11):
    assert found.keys() == expected.keys()
    for key, numbers in expected.items():
        assert found[key].status == numbers.status
        assert found[key].values.keys() == numbers.values.keys()
        for name, value in numbers.values.items():
            if name in ("spectral_norm_upper", "spectrum_error"):
                continue
            assert found[key].values[name] == pytest.approx(value, rel=rel, nan_ok=True), (key, name)


def phi_tensors(width=96, kv=96):
    generator = torch.Generator().manual_seed(0)
    shapes = {"q_proj": (width, width), "k_proj": (kv, width), "v_proj": (kv, width)}
    return {
        f"model.layers.{layer}.self_attn.{name}.weight": torch.randn(*shape, generator=generator).bfloat16()
        for layer in range(2)
        for name, shape in shapes.items()
    }


CHECKPOINTS = {
    # stored transposed: rows of the file are columns of the matrices, Q, K and V side by side in them
    "gpt2": (gpt2_tensors(layers=2, width=96, vocabulary=500), {"model_type": "gpt2", "n_head": 4}),
    # three tensors that make up a whole
    "phi": (phi_tensors(), {"model_type": "phi"}),
    "grouped queries": (phi_tensors(kv=24), {"model_type": "phi", "num_key_value_heads": 1}),
    # a tensor of more than two dimensions
    "conv": ({"visual.conv1.weight": torch.randn(70, 3, 8, 8)}, {}),
    # a table that is added to a batch
    "leading one": ({"embeddings.position_embeddings": torch.randn(1, 300, 80)}, {}),
    "wide": ({"layers.0.mlp.fc1.weight": torch.randn(60, 900)}, {}),
}


@pytest.mark.parametrize("kind", ["files", "memory"])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_any_layout_as_if_it_were_held(tmp_path, name, kind):
    tensors, config = CHECKPOINTS[name]
    where = tensors if kind == "memory" else write_checkpoint(tmp_path, tensors, config)
    with weightscope.open_checkpoint(where, family=config.get("model_type")) as checkpoint:
        plan = all_streamed(checkpoint)
        held = plan_sweep(checkpoint.matrices, checkpoint.tensors)
        assert [m.sort_key for m in plan.matrices] == [
            m.sort_key for step in plan.steps for s in step.stacks for m in s.matrices
        ]
        assert {m.sort_key for m in plan.matrices} == {m.sort_key for m in held.matrices}
        source = checkpoint.source
        found = solved(plan, source)
        assert source.received_bytes == plan.read_bytes
        assert_alike(found, solved(held, source))
        # An SVD sees small values better than any Gram matrix does: compared are Gram matrices.
        options = {"with_spectrum": True, "spectrum_method": "gram"}
        assert_alike(solved(plan, source, **options), solved(held, source, **options), rel=1e-7)


def test_interleaved_heads_as_if_they_were_held(tmp_path):
    """Q, K and V are pieces all over one tensor, and QKV is all of it in another order."""
    tensors = {
        f"gpt_neox.layers.{i}.attention.query_key_value.weight": torch.randn(288, 96) for i in range(2)
    }
    config = {"model_type": "gpt_neox", "num_attention_heads": 6}
    with weightscope.open_checkpoint(write_checkpoint(tmp_path, tensors, config)) as checkpoint:
        plan, source = all_streamed(checkpoint), checkpoint.source
        held = plan_sweep(checkpoint.matrices, checkpoint.tensors)
        assert [len(stack.parts) for step in held.steps for stack in step.stacks] == [3, 3]
        found = solved(plan, source)
        assert source.received_bytes == plan.read_bytes == 2 * 288 * 96 * 4
        assert_alike(found, solved(held, source))


@pytest.mark.parametrize("groups", [("Q",), ("K", "V"), ("QKV",), ("Q", "K", "V")])
def test_a_part_of_what_is_fused(tmp_path, groups):
    folder = write_checkpoint(tmp_path, gpt2_tensors(layers=1, width=96), {"model_type": "gpt2", "n_head": 4})
    with weightscope.open_checkpoint(folder) as checkpoint:
        plan = all_streamed(checkpoint, groups)
        expected = {
            key: numbers
            for key, numbers in solved(
                plan_sweep(checkpoint.matrices, checkpoint.tensors), checkpoint.source
            ).items()
            if key in {m.sort_key for m in plan.matrices}
        }
        assert_alike(solved(plan, checkpoint.source), expected)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
)
@pytest.mark.parametrize("shape", [(700, 60), (60, 700)])
def test_every_stored_type_against_lapack(tmp_path, dtype, shape):
    matrix = torch.randn(*shape).to(dtype)
    with weightscope.open_checkpoint(write_checkpoint(tmp_path, {NAME: matrix}, EMBEDDING)) as checkpoint:
        plan = all_streamed(checkpoint)
        assert len(list(blocks_of(plan.steps[0], plan.steps[0].stream))) > 1
        (found,) = solved(plan, checkpoint.source, with_spectrum=True).values()
    sigma = oracles.singular_values(matrix)
    assert np.abs(found.singular_values.numpy() - sigma).max() <= 1e-12 * sigma[0]
    assert found.values["frobenius_norm"] == pytest.approx(oracles.frobenius_norm(matrix), rel=1e-12)


@pytest.mark.parametrize("spoilt", [0, 1, 2])
def test_what_is_not_finite_spoils_its_row_and_the_whole(tmp_path, spoilt):
    tensors = phi_tensors()
    names = [name for name in tensors if ".0." in name]
    tensors[names[spoilt]][50, 7] = float("inf")
    with weightscope.open_checkpoint(
        write_checkpoint(tmp_path, tensors, {"model_type": "phi"})
    ) as checkpoint:
        found = solved(all_streamed(checkpoint), checkpoint.source)
        held = solved(plan_sweep(checkpoint.matrices, checkpoint.tensors), checkpoint.source)
    assert [numbers.status for numbers in held.values()].count("non_finite") == 2
    assert_alike(found, held)


def test_nothing_more_is_read_once_all_is_lost(tmp_path):
    matrix = torch.randn(5000, 40)
    matrix[3, 3] = float("nan")
    with weightscope.open_checkpoint(write_checkpoint(tmp_path, {NAME: matrix}, EMBEDDING)) as checkpoint:
        (found,) = solved(all_streamed(checkpoint), checkpoint.source).values()
        assert checkpoint.source.received_bytes < matrix.nbytes / 4
    assert found.status == "non_finite"


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 7)), max_size=4),
    st.integers(1, 17),
)
def test_rows_within_blocks_are_the_rows(ranges, length):
    rows = tuple(range(start, start + extent, step) for start, extent, step in ranges)
    found = []
    for start in range(0, 80, length):
        stop = min(start + length, 80)
        within = rows_within(rows, start, stop)
        assert all(0 <= row < stop - start for some in within for row in some)
        found += [start + row for some in within for row in some]
    assert sorted(found) == sorted(row for some in rows for row in some)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_blocks_cover_each_byte_once(tmp_path, name):
    tensors, config = CHECKPOINTS[name]
    with weightscope.open_checkpoint(write_checkpoint(tmp_path, tensors, config)) as checkpoint:
        for step in all_streamed(checkpoint).steps:
            held = {
                info.name: np.zeros(info.shape, dtype=int).reshape(info.shape[0], -1) for info in step.tensors
            }
            for parts in blocks_of(step, step.stream):
                for part in parts:
                    place = held[part.tensor.name]
                    some = slice(part.start, part.stop)
                    view = place[:, some] if part.by_columns else place[some]
                    view += 1
                    assert part.nbytes == view.size * part.tensor.nbytes // part.tensor.elements
            assert all((count == 1).all() for count in held.values())
            down, across = (sum(n**2 for n in gram_sizes(step, across=way)) for way in (False, True))
            assert sum(n**2 for n in gram_sizes(step, across=step.stream.across)) == min(down, across)


@pytest.fixture(scope="module")
def embedding(tmp_path_factory):
    """40,000 x 300 in bfloat16 and a few small matrices behind it."""
    generator = torch.Generator().manual_seed(0)
    tensors = {NAME: torch.randn(40_000, 300, generator=generator).bfloat16()}
    for layer in range(3):
        tensors[f"model.layers.{layer}.mlp.up_proj.weight"] = torch.randn(200, 300, generator=generator)
    return write_checkpoint(tmp_path_factory.mktemp("embedding"), tensors, EMBEDDING)


def test_only_what_does_not_fit_is_streamed(embedding):
    with weightscope.open_checkpoint(embedding) as checkpoint:

        def fitted(limit):
            return fit(checkpoint.matrices, checkpoint.tensors, limit=limit, threads=2, needs=Needs())

        free = fitted(None)
        assert not list(free.plan.streamed)
        assert fitted(free.needed).plan == free.plan
        least_held = plan_bytes(plan_sweep(checkpoint.matrices, checkpoint.tensors, budget=1), Needs(), 1)
        assert not list(fitted(least_held).plan.streamed)
        tight = fitted(least_held - 1)
        assert [matrix.group for matrix, _ in tight.plan.streamed] == ["embedding"]
        assert tight.needed < least_held
        assert fitted(tight.needed).plan == tight.plan
        assert tight.plan.read_bytes == free.plan.read_bytes


def test_an_svd_needs_the_whole_matrix(embedding):
    with weightscope.open_checkpoint(embedding) as checkpoint:
        needs = Needs(with_spectrum=True, by_svd=True)
        with pytest.raises(DeviceMemoryError, match="exact") as caught:
            fit(checkpoint.matrices, checkpoint.tensors, limit=150_000_000, threads=2, needs=needs)
        needed = parse_memory(caught.value.advice.split("--memory ")[1].split()[0])
        found = fit(checkpoint.matrices, checkpoint.tensors, limit=needed, threads=2, needs=needs)
        assert not list(found.plan.streamed)


@pytest.mark.parametrize("spectrum", [False, True])
def test_a_refusal_names_a_size_that_does(embedding, spectrum):
    options = {"groups": "all", "spectrum": spectrum}
    limit = least_memory(embedding, **options)
    with pytest.raises(DeviceMemoryError):
        weightscope.analyze(embedding, memory=int(limit * 0.8), **options)
    seen = []
    analysis = weightscope.analyze(
        embedding, memory=limit, progress=lambda state: seen.append(state.done_bytes), **options
    )
    free = weightscope.analyze(embedding, **options)
    streamed = analysis.table["method"].str.startswith("streamed")
    assert list(analysis.table["group"][streamed]) == ["embedding"]
    for column in ("frobenius_norm", "spectral_norm", "stable_rank", "std", "max_abs", "row_norm_ratio"):
        assert analysis.table[column].tolist() == pytest.approx(free.table[column].tolist(), rel=RTOL)
    assert analysis.provenance["bytes"] == free.provenance["bytes"]
    assert seen == sorted(seen)
    assert len(set(seen)) > 40_000 * 300 * 2 // 30_000 / 2  # within the matrix too
    assert seen[-1] == analysis.provenance["bytes"]["selected"]


def test_a_dry_run_says_so(embedding):
    limit = least_memory(embedding, groups="all")
    with weightscope.open_checkpoint(embedding) as checkpoint:
        options = {"groups": tuple(Group)}
        tight, free = (estimate(checkpoint, Options(**options, memory=m)) for m in (limit, 4 * limit))
    assert (tight.streamed, free.streamed) == (1, 0)
    assert tight.memory_bytes <= limit
    assert tight.estimated_seconds > 0
    done = CliRunner().invoke(
        app, ["analyze", str(embedding), "--groups", "all", "--memory", str(limit), "--dry-run"]
    )
    assert "matrices that do not fit as a whole and are read in blocks: 1" in done.stdout


def test_resumed_with_another_limit_it_says_what_differs(embedding, tmp_path):
    journal = tmp_path / JOURNAL_FILE
    limit = least_memory(embedding, groups="all")
    first = weightscope.analyze(embedding, groups="all", memory=limit, journal=journal)
    content = journal.read_bytes()
    again = weightscope.analyze(embedding, groups="all", memory=limit + 1, journal=journal, resume=True)
    assert again.provenance["resumed"] == 4
    assert again.table.equals(first.table)
    with pytest.raises(JournalMismatch, match=r"another streamed.*embed_tokens"):
        weightscope.analyze(embedding, groups="all", memory="4G", journal=journal, resume=True)
    assert journal.read_bytes() == content


@pytest.mark.parametrize("share", [i / 11 for i in range(12)])
def test_cut_anywhere(tmp_path, share):
    """The parts of a step that is streamed may have been written down without the whole."""
    folder = write_checkpoint(tmp_path, gpt2_tensors(layers=2, width=96), {"model_type": "gpt2", "n_head": 4})
    with weightscope.open_checkpoint(folder) as checkpoint:
        plan = all_streamed(checkpoint)
        whole = list(solved(plan, checkpoint.source).values())
        count = plan.whole_stacks(round(share * len(whole)))
        rest = list(solved(plan.after(count), checkpoint.source).values())
        assert [numbers.values for numbers in rest] == [numbers.values for numbers in whole[count:]]
        assert [step.stream for step in plan.after(count).steps if step.stream] == [
            step.stream for step in plan.steps
        ][-len(plan.after(count).steps) :] or not rest


def command(folder, out, limit):
    return [
        sys.executable, "-m", "weightscope", "analyze", str(folder), "--out", str(out), "--groups", "all",
        "--no-plots", "--quiet", "--memory", str(limit), "--resume",
    ]  # fmt: skip


def test_kill_minus_nine(embedding, tmp_path, monkeypatch):
    monkeypatch.undo()  # a process of its own has blocks of the usual size
    limit, out, reference = least_memory(embedding, groups="all"), tmp_path / "out", tmp_path / "reference"
    subprocess.run(command(embedding, reference, limit), check=True, capture_output=True)
    process = subprocess.Popen(command(embedding, out, limit), stdout=subprocess.DEVNULL)
    deadline, journal = time.monotonic() + 60, out / JOURNAL_FILE
    while process.poll() is None and time.monotonic() < deadline:
        if journal.exists() and journal.read_bytes().count(b"\n") >= 1:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.002)
    assert process.wait() == -signal.SIGKILL
    done = subprocess.run(command(embedding, out, limit), check=True, capture_output=True)
    assert done.returncode == 0
    assert (out / "matrices.csv").read_bytes() == (reference / "matrices.csv").read_bytes()
    assert json.loads((out / "provenance.json").read_text())["methods"]["streamed_lanczos"] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("spectrum", [False, True])
def test_memory_stays_below_the_limit(tmp_path, monkeypatch, transposed, spectrum):
    monkeypatch.undo()
    matrix = torch.randn(60_000, 512).bfloat16()  # 61 MB as stored, 123 MB in float32
    stored = matrix.T.contiguous() if transposed else matrix
    folder = write_checkpoint(tmp_path, {NAME: stored}, EMBEDDING)
    options = {"groups": "embedding", "spectrum": spectrum}
    limit = least_memory(folder, **options)
    assert limit < 250e6
    found = measured(folder, memory=limit, **options)
    assert found["method"].startswith("streamed")
    assert found["peak"] <= limit


def test_a_short_file_is_said(tmp_path):
    matrix = torch.randn(3000, 40)
    folder = write_checkpoint(tmp_path, {NAME: matrix}, EMBEDDING)
    with weightscope.open_checkpoint(folder) as checkpoint:
        plan = all_streamed(checkpoint)
        os.truncate(folder / "model.safetensors", matrix.nbytes // 2)
        with pytest.raises(weightscope.WeightscopeError, match="shrank while it was read"):
            solved(plan, checkpoint.source)


def test_ranges_of_a_tensor():
    info = TensorInfo(name="a", dtype="BF16", shape=(6, 2, 5), shard="s", start=100, stop=220)
    assert prod(info.shape) * 2 == info.nbytes
    rows = streaming.Part(tensor=info, start=2, stop=5, by_columns=False)
    columns = streaming.Part(tensor=info, start=2, stop=5, by_columns=True)
    assert (rows.nbytes, columns.nbytes) == (3 * 10 * 2, 6 * 3 * 2)
