"""What a run would cost, from headers and a moment's measurement on this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import prod
from time import perf_counter
from typing import Any

from weightscope.checkpoint import Checkpoint
from weightscope.options import Options
from weightscope.planning import plan_analysis
from weightscope.sweep.plan import Plan
from weightscope.sweep.streaming import gram_size, summed

# The calibration matrix: large enough for the solvers to reach their speed.
_SIDE = 1024
# Reading from a warm page cache; a cold disk is slower, and the estimate says so.
_READ_BYTES_PER_SECOND = 1.5e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run would do and about what it would cost."""

    matrices: int
    """To be analysed."""
    tensors: int
    """To be read."""
    read_bytes: int
    """To be read."""
    download_bytes: int
    """Of these, to come over a network."""
    memory_bytes: int
    """Of tensors and solvers at most, beside what Python and torch take."""
    streamed: int
    """Matrices that do not fit in memory as a whole and are read in blocks."""
    device: str
    """Where it would run."""
    estimated_seconds: float
    """A guess: weights in the page cache, spectra like a Gaussian matrix'."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def estimate(checkpoint: Checkpoint, options: Options) -> Estimate:
    """Plan a run, and time one small matrix to guess how long it takes.

    Raises:
        SelectionError: A layer the checkpoint does not have.
        DeviceUnavailable: The device is not here.
    """
    fitted, device = plan_analysis(checkpoint, options)
    plan = fitted.plan
    return Estimate(
        matrices=len(list(plan.matrices)),
        tensors=sum(len(step.tensors) for step in plan.steps),
        read_bytes=plan.read_bytes,
        download_bytes=sum(
            info.nbytes for step in plan.steps for info in step.tensors if checkpoint.source.is_remote(info)
        ),
        memory_bytes=fitted.needed,
        streamed=len(list(plan.streamed)),
        device=str(device),
        estimated_seconds=plan.read_bytes / _READ_BYTES_PER_SECOND
        + _solve_seconds(plan, options, device)
        + _product_seconds(plan, device),
    )


def _solve_seconds(plan: Plan, options: Options, device: Any) -> float:
    """Time one matrix, then scale: by elements for norms, by sides for spectra."""
    import torch

    from weightscope.spectra.extremal import Bound
    from weightscope.spectra.numbers import SpectralOptions
    from weightscope.spectra.solver import StackSolver
    from weightscope.spectra.workspace import Workspace
    from weightscope.sweep.exact import exact_type

    numerics = SpectralOptions(rtol=options.rtol, bound=Bound(options.bound), with_spectrum=options.spectrum)
    solver = StackSolver(numerics, Workspace(device))
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(_SIDE, _SIDE, generator=generator).to(device)
    if {tensor.dtype for step in plan.steps for tensor in step.tensors} == {"BF16"}:
        sample = sample.to(exact_type({"BF16"}, device))
    seconds = []
    for _ in range(2):  # the first call pays for torch's own preparations
        started = perf_counter()
        solver.solve([sample], None, bf16_valued=sample.dtype == torch.bfloat16)
        seconds.append(perf_counter() - started)

    def work(shape: tuple[int, int]) -> float:
        if not options.spectrum:
            return prod(shape)
        short, long = sorted(shape)
        # As the times of `python -m tests.benchmarks.bench_methods` grow from a short side of 768 on.
        return short**2.4 * (long / short) ** (1 / 3) if short else 0.0

    held = (matrix for step in plan.steps if not step.stream for s in step.stacks for matrix in s.matrices)
    return seconds[-1] * sum(work(matrix.shape) for matrix in held) / work((_SIDE, _SIDE))


def _product_seconds(plan: Plan, device: Any) -> float:
    """Time one product in float64, then scale: the Gram matrices of what is read in blocks."""
    import torch

    products = sum(
        prod(matrix.shape) * gram_size(matrix, across=step.stream.across) / 2  # symmetric
        for step in plan.steps
        if step.stream
        for stack in step.stacks
        for matrix in summed(stack, across=step.stream.across)
    )
    if not products:
        return 0.0
    sample = torch.ones(_SIDE, _SIDE, dtype=torch.float64, device=device)
    for _ in range(2):
        started = perf_counter()
        float((sample @ sample)[0, 0])
        seconds = perf_counter() - started
    return seconds * products / _SIDE**3
