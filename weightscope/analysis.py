"""`analyze`: the only file that joins the stages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from weightscope.checkpoint import Checkpoint, open_checkpoint
from weightscope.checkpoints.reading import DEFAULT_CONNECTIONS
from weightscope.counting import counted
from weightscope.coverage import coverage, skipped_table
from weightscope.errors import OptionError
from weightscope.families.matrix import Matrix
from weightscope.families.select import parse_groups, parse_layers
from weightscope.families.spec import DEFAULT_GROUPS, FamilySpec
from weightscope.options import DEFAULT_EPSILON, Options
from weightscope.over_experts import over_experts
from weightscope.planning import groups_not_there, plan_analysis
from weightscope.plots import plot_quantity
from weightscope.provenance import provenance_here, provenance_of, run_identity
from weightscope.report import SCHEMAS, check_schema, write_report
from weightscope.summary import summarise
from weightscope.sweep.memory import Fitted, parse_memory
from weightscope.table import MATRIX_KEY, build_table, columns, spectra_table

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from matplotlib.figure import Figure

    from weightscope.checkpoints.stream import Openable
    from weightscope.spectra.numbers import MatrixNumbers
    from weightscope.sweep.run import Progress


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Analysis:
    """What `analyze` returns.

    Attributes:
        table: One row a matrix.
        summary: By group, over all, norm preservation, coverage; JSON-ready.
        skipped: Tensors of two or more dimensions without a row: not selected, or skipped and why.
        provenance: Source, files, versions, device, options, seconds, bytes.
        spectra: Every singular value, long; None unless asked for.
        matrices: What each row of the table is made of.
    """

    table: pd.DataFrame
    summary: dict[str, Any]
    skipped: pd.DataFrame
    provenance: dict[str, Any]
    spectra: pd.DataFrame | None = None
    matrices: tuple[Matrix, ...] = ()

    def __repr__(self) -> str:
        """What it is of, in one line."""
        counts = self.summary["coverage"]
        matrices = counted(counts["analysed"], "matrix", "matrices")
        return f"<Analysis of {self.provenance['checkpoint']}: {matrices}>"

    @property
    def complete(self) -> bool:
        """Whether matrices were selected, all have numbers, and no weight was skipped or not recognised."""
        counts = self.summary["coverage"]
        whole = counts["skipped"] == counts["harmless"] and not counts["strangers"]
        return bool(0 < counts["selected"] == counts["analysed"] and whole)

    def plot(self, quantity: str = "stable_rank") -> Figure:
        """A quantity against the layer, one line a group.

        Raises:
            SelectionError: No such column, or no row in a layer.
        """
        return plot_quantity({self.label: self.table}, quantity)

    @property
    def experts(self) -> pd.DataFrame:
        """Mean and spread over the experts of each layer, one row a layer and group; see `over_experts`."""
        return over_experts(self.table)

    @property
    def label(self) -> str:
        """Short name of the checkpoint: the last part of its path."""
        return Path(self.provenance["checkpoint"]).name or self.provenance["checkpoint"]

    def weightwatcher(self) -> pd.DataFrame:
        """The columns of WeightWatcher 0.7.7's `details`, one row for each stored weight.

        Raises:
            OptionError: The singular values were not computed.
        """
        from weightscope.weightwatcher import weightwatcher_table

        if self.spectra is None:
            raise OptionError(
                "The columns of WeightWatcher were asked for.",
                "They follow from the singular values, which this analysis does not have.",
                "Call analyze(…, spectrum=True).",
            )
        return weightwatcher_table(self.matrices, self.table, self.spectra)

    def save(self, folder: str | Path, *, plots: bool = True, schema: str = SCHEMAS[0]) -> list[Path]:
        """Write the report into a folder and return its files.

        Args:
            folder: Made if it is not there.
            plots: Whether to draw.
            schema: `weightscope`, or `weightwatcher` for `weightwatcher.csv` too.

        Raises:
            OptionError: No such schema, or the singular values that it needs were not computed.
            OutputError: It cannot be written; an earlier report there is untouched.
        """
        started = perf_counter()

        def provenance() -> dict[str, Any]:
            seconds = self.provenance["seconds"]
            seconds["total"] -= seconds["write"]  # of an earlier save
            seconds["write"] = perf_counter() - started
            seconds["total"] += seconds["write"]
            return self.provenance

        return write_report(
            Path(folder),
            table=self.table,
            skipped=self.skipped,
            summary=self.summary,
            spectra=self.spectra,
            provenance=provenance,
            label=self.label,
            plots=plots,
            weightwatcher=self.weightwatcher() if check_schema(schema) == "weightwatcher" else None,
        )


def analyze(
    source: Openable,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    groups: str | Iterable[str] = DEFAULT_GROUPS,
    layers: str | int | Iterable[int] | None = None,
    spectrum: bool = False,
    epsilon: float | Iterable[float] = DEFAULT_EPSILON,
    spectrum_method: str = "auto",
    device: str = "auto",
    rtol: float = 1e-6,
    bound: str = "probable",
    memory: str | int | None = None,
    family: str | FamilySpec | None = None,
    allow_pickle: bool = False,
    cache: bool = False,
    connections: int = DEFAULT_CONNECTIONS,
    verify: bool = False,
    partial: bool = False,
    seed: int = 0,
    journal: str | Path | None = None,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Analysis:
    """Norms and ranks of every selected matrix of a checkpoint.

    Args:
        source: A reference such as `demo` or `microsoft/phi-2`, a path, a live `nn.Module` or a state dict.
        revision: Branch, tag or commit of a repository on the Hub; its default branch if None.
        subfolder: Folder inside the repository, or inside the path.
        groups: Roles to analyse, or `"all"`.
        layers: Layers to analyse, as numbers or text like `"0-3,7"`; None for all.
        spectrum: Whether to compute every singular value.
        epsilon: Thresholds of the ε-ranks, each in (0, 1); others than the default imply `spectrum`.
        spectrum_method: `svdvals` for an SVD of every matrix, `gram` for none; `auto` chooses by size.
        device: `auto`, `cpu`, `cuda`, `cuda:1` …
        rtol: Relative width of the interval around the spectral norm.
        bound: What stands behind the upper end of that interval: `residual`, `probable`, `audited`, `proved`.
        memory: What tensors and solvers may take, as bytes or text like `"4G"`; None for three quarters of
            what is free. A matrix that is larger is read in blocks.
        family: Name of a family, path of a family file, or a `FamilySpec`; found by itself if None.
        allow_pickle: Whether `.bin` and `.pt` files may be loaded, tensors only.
        cache: Whether to download a repository's files into the Hub's cache first, rather than to read the
            parts that are needed.
        connections: To the Hub at once, in [1, 64].
        verify: Whether to compare whole files with the Hub's digests first; not for what is streamed.
        partial: Whether layers, or parts of them, may be missing; else that is an error.
        seed: Of the random start of the largest singular value.
        journal: A file in which every matrix is written down as soon as it is done; the caller removes it.
        resume: Whether to go on from what that file holds of an interrupted run.
        progress: Called after every batch.

    Examples:
        >>> analysis = analyze("demo", groups="Q,K")
        >>> len(analysis.table)
        8

    Raises:
        WeightscopeError: One of its subclasses, for everything that can be wrong with the input.
    """
    thresholds = (float(epsilon),) if isinstance(epsilon, (int, float)) else tuple(epsilon)
    options = Options(
        groups=parse_groups(groups),
        layers=parse_layers(layers),
        # Thresholds of one's own are of no use without a spectrum, so they imply it, as on the command line.
        spectrum=spectrum or thresholds != DEFAULT_EPSILON,
        epsilon=thresholds,
        spectrum_method=spectrum_method,
        device=device,
        rtol=rtol,
        bound=bound,
        memory=parse_memory(memory),
        seed=seed,
    )
    with open_checkpoint(
        source,
        revision=revision,
        subfolder=subfolder,
        family=family,
        allow_pickle=allow_pickle,
        cache=cache,
        connections=connections,
        verify=verify,
        partial=partial,
    ) as checkpoint:
        return analyze_checkpoint(
            checkpoint,
            options,
            journal=Path(journal) if journal is not None else None,
            resume=resume,
            progress=progress,
        )


def analyze_checkpoint(
    checkpoint: Checkpoint,
    options: Options,
    *,
    journal: Path | None = None,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Analysis:
    """`analyze` for a checkpoint that is open already."""
    from weightscope.spectra.bounds import FAILURE_PROBABILITY
    from weightscope.sweep.journal import Journal

    if resume and journal is None:
        raise OptionError(
            "An interrupted run was to be resumed.", "No journal was named.", "Pass journal=PATH too."
        )
    fitted, device = plan_analysis(checkpoint, options)
    plan = fitted.plan
    started, seconds = perf_counter(), {"read": 0.0, "cast": 0.0, "solve": 0.0}
    with ExitStack() as opened:
        book = None
        if journal is not None:
            book = Journal.open(journal, run_identity(checkpoint, plan, options, device), resume=resume)
            opened.callback(book.close)
            book.keep(plan.whole_stacks(len(book.done)))
        done = book.done if book else []
        solved = list(zip(plan.matrices, done, strict=False))
        for matrix, numbers, state in _sweep(checkpoint, fitted, options, device, len(done), progress):
            if book:
                book.append(numbers)
            solved.append((matrix, numbers))
            seconds = asdict(state.seconds)
    total = perf_counter() - started
    solved.sort(key=lambda pair: pair[0].sort_key)
    schema = columns(with_spectrum=options.spectrum, epsilon=options.epsilon)
    table = build_table([_row(matrix, numbers, checkpoint) for matrix, numbers in solved], schema)
    skipped = skipped_table(checkpoint, [matrix for matrix, _ in solved])
    summary = {
        "checkpoint": checkpoint.source.reference,
        "revision": checkpoint.source.revision,
        "family": checkpoint.detection.spec.name,
        "notes": [*checkpoint.notes, *groups_not_there(checkpoint, options)],
        "guesses": list(checkpoint.detection.guesses),
        "coverage": coverage(table, skipped, len(checkpoint.strangers)),
        **summarise(table),
    }
    provenance = {
        **provenance_of(checkpoint),
        **provenance_here(device),
        "options": options.as_dict(),
        "methods": {str(name): int(count) for name, count in table["method"].value_counts().items() if name},
        "tolerances": {"spectral_norm": options.rtol, "failure_probability": FAILURE_PROBABILITY},
        "seed": options.seed,
        "seconds": {**seconds, "write": 0.0, "total": total},
        "resumed": len(done),
        "bytes": {"selected": plan.read_bytes, "received": checkpoint.source.received_bytes},
        "requests": checkpoint.source.requests,
    }
    singular_values = [
        (_key(matrix), numbers.singular_values.numpy())
        for matrix, numbers in solved
        if numbers.singular_values is not None
    ]
    return Analysis(
        table=table,
        summary=summary,
        skipped=skipped,
        provenance=provenance,
        spectra=spectra_table(singular_values) if options.spectrum else None,
        matrices=tuple(matrix for matrix, _ in solved),
    )


def _sweep(
    checkpoint: Checkpoint,
    fitted: Fitted,
    options: Options,
    device: torch.device,
    done: int,
    progress: Callable[[Progress], None] | None,
) -> Iterator[tuple[Matrix, MatrixNumbers, Progress]]:
    """The plan's matrices from number `done` on, with their numbers."""
    from weightscope.spectra.extremal import Bound
    from weightscope.spectra.numbers import SpectralOptions
    from weightscope.spectra.spectrum import SpectrumMethod
    from weightscope.sweep.run import run_sweep

    numerics = SpectralOptions(
        rtol=options.rtol,
        bound=Bound(options.bound),
        with_spectrum=options.spectrum,
        spectrum_method=cast(SpectrumMethod, options.spectrum_method),
        epsilon=options.epsilon,
        seed=options.seed,
    )
    plan = fitted.plan
    rest = plan.after(done)
    return run_sweep(
        rest,
        checkpoint.source,
        device=device,
        options=numerics,
        side_by_side=fitted.side_by_side,
        spare_bytes=None if options.memory is None else options.memory - fitted.needed,
        done_bytes=plan.read_bytes - rest.read_bytes,
        observe=progress,
    )


def _row(matrix: Matrix, numbers: MatrixNumbers, checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "checkpoint": checkpoint.source.reference,
        "revision": checkpoint.source.revision,
        **_key(matrix),
        "out_features": matrix.shape[0],
        "in_features": matrix.shape[1],
        "dtype": matrix.dtype,
        "status": numbers.status,
        "method": numbers.method,
        "bound": numbers.bound,
        **numbers.values,
    }


def _key(matrix: Matrix) -> dict[str, Any]:
    return {column.name: getattr(matrix, column.name) for column in MATRIX_KEY}
