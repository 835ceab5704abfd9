"""The limit on memory: parsed, planned for, kept, and changing no number."""

import sys
from math import ceil

import pytest
import torch

import weightscope
from tests.benchmarks.measure_memory import measured
from tests.factories import write_checkpoint, write_gpt2
from weightscope.checkpoint import open_checkpoint
from weightscope.errors import DeviceMemoryError, OptionError
from weightscope.spectra import accumulate, extremal, gram, side_by_side, spectrum
from weightscope.sweep import memory, streaming
from weightscope.sweep.memory import Needs, fit, parse_memory, plan_bytes, stack_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4G", 4_000_000_000), ("500MiB", 500 * 2**20), ("1.5 gb", 1_500_000_000), ("7", 7), (12, 12),
        ("2Ti", 2 * 2**40), ("8k", 8000), (None, None),
    ],
)  # fmt: skip
def test_sizes(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "0", "1.G", "4 elephants", "1e9", "4GG"])
def test_no_sizes(text):
    with pytest.raises(OptionError, match="no size"):
        parse_memory(text)


def test_constants_are_those_of_the_solvers():
    assert streaming.LANCZOS_VECTORS == extremal.MAX_STEPS + 1
    assert streaming.PIECE_ROWS == accumulate._ROWS
    assert streaming.PIECE_ELEMENTS == accumulate._ELEMENTS
    assert memory.GRAM_ROWS == gram._ROWS
    assert memory.SVD_SIDE == spectrum.SVD_SIDE
    assert memory.MOST_SIDE_BY_SIDE == side_by_side._MOST_THREADS


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    shape = {"up_proj": (2000, 800), "down_proj": (800, 2000), "gate_proj": (2000, 800)}
    tensors = {
        f"model.layers.{layer}.mlp.{name}.weight": torch.randn(*shape[name]).bfloat16()
        for layer in range(30)
        for name in shape
    }
    folder = write_checkpoint(tmp_path_factory.mktemp("memory"), tensors)
    with open_checkpoint(folder) as opened:
        yield opened


def test_smaller_steps_and_fewer_at_once_before_a_refusal(checkpoint):
    needs, needed, in_blocks = Needs(with_spectrum=True), [], []

    def fitted(limit):
        return fit(checkpoint.matrices, checkpoint.tensors, limit=limit, threads=4, needs=needs)

    free = fitted(None)
    assert free.side_by_side == 4
    limit, last = free.needed, free
    while True:
        try:
            found = fitted(limit)
        except DeviceMemoryError as error:
            refused = error
            break
        assert found.needed <= limit
        assert found.needed == plan_bytes(found.plan, needs, found.side_by_side)
        assert list(found.plan.matrices) == list(free.plan.matrices)
        streamed = sum(step.stream is not None for step in found.plan.steps)
        if streamed and not in_blocks:  # only when nothing else is left
            assert last.side_by_side == 1
            assert len(last.plan.steps) == len(checkpoint.matrices)
        in_blocks.append(streamed) if streamed else needed.append(found.needed)
        last, limit = found, found.needed - 1
    assert "2000x800" in refused.found or "800x2000" in refused.found
    assert f"{ceil(last.needed / 2**20)} MiB" in refused.found
    assert len(needed) > 4
    assert in_blocks[-1] == len(last.plan.steps) == len(checkpoint.matrices)


def test_nothing_selected_needs_nothing(checkpoint):
    assert fit([], checkpoint.tensors, limit=1, threads=2, needs=Needs()).needed == 0


def test_an_svd_of_everything_needs_more(checkpoint):
    stack = (
        fit(checkpoint.matrices, checkpoint.tensors, limit=None, threads=1, needs=Needs())
        .plan.steps[0]
        .stacks[0]
    )
    norms, spectra, by_svd = (
        stack_bytes(stack, needs, 2)
        for needs in (Needs(), Needs(with_spectrum=True), Needs(with_spectrum=True, by_svd=True))
    )
    assert norms < spectra < by_svd


def test_a_limit_changes_no_number(tmp_path):
    folder = write_gpt2(tmp_path, layers=2, width=280)
    free = weightscope.analyze(folder, spectrum=True)
    tight = None
    for limit in ("2G", "300M", "180M", "150M"):
        try:
            tight = weightscope.analyze(folder, spectrum=True, memory=limit)
        except DeviceMemoryError:
            break
        assert tight.table.to_csv() == free.table.to_csv()
    assert tight is not None


def test_refused_before_anything_is_read(tmp_path):
    with pytest.raises(DeviceMemoryError, match=r"at most 1000000 bytes. It needs .* --memory") as caught:
        weightscope.analyze(write_gpt2(tmp_path), memory="1M")
    assert len([caught.value.asked, caught.value.found, caught.value.advice]) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("spectrum_too", [False, True])
def test_memory_does_not_grow_with_layers_and_stays_below_the_limit(tmp_path, spectrum_too):
    peaks = []
    for layers in (16, 32):  # 200 and 400 MB of float32: several steps either way
        folder = write_gpt2(tmp_path / str(layers), layers=layers, width=512)
        found = measured(folder, spectrum=spectrum_too, memory="400M", groups="Q,K,V,O,QKV,M1,M2")
        assert found["peak"] <= found["planned"] <= 400e6
        peaks.append(found["peak"])
    # A few MB of the interpreter's own come and go.
    assert abs(peaks[1] - peaks[0]) <= 0.1 * peaks[0] + 8e6
