"""`open_checkpoint`: one checkpoint, its tensors seen as matrices. Floor 4, beside the sweep."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from functools import partial as applied
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypedDict

from weightscope.checkpoints.header import TensorIndex
from weightscope.checkpoints.reading import DEFAULT_CONNECTIONS, Reading
from weightscope.checkpoints.same import same_bytes
from weightscope.checkpoints.source import Source
from weightscope.checkpoints.stream import open_source
from weightscope.errors import FamilyMismatch
from weightscope.families.agreement import check_heads, check_widths
from weightscope.families.assign import Assignment, Skipped, assign
from weightscope.families.copies import stored_copies
from weightscope.families.detect import Detection, detect_family
from weightscope.families.experts import check_experts
from weightscope.families.family_file import load_family
from weightscope.families.find import find_matrix
from weightscope.families.guess import UNKNOWN
from weightscope.families.judgement import Judgement, judge
from weightscope.families.matrix import Matrix
from weightscope.families.mixture import check_one_family
from weightscope.families.sizes import ConfigSizes, stack_sizes
from weightscope.families.spec import FamilySpec

if TYPE_CHECKING:
    import torch

    from weightscope.checkpoints.stream import Openable


class TruncatedSVD(NamedTuple):
    """The k largest singular triplets of a matrix, float64: W ≈ U diag(S) Vh."""

    U: torch.Tensor
    """Left singular vectors, shape (out_features, k)."""
    S: torch.Tensor
    """Singular values, descending, shape (k,)."""
    Vh: torch.Tensor
    """Right singular vectors, shape (k, in_features)."""


class Checkpoint:
    """An opened checkpoint; close it, or use it as a context manager.

    Attributes:
        source: Where the bytes come from.
        detection: The family and how it was found.
    """

    def __init__(self, source: Source, family: FamilySpec | None = None, *, partial: bool = False) -> None:
        self.source = source
        self._as_asked, self._partial = family is not None, partial
        self.detection: Detection = detect_family(
            source.index, source.config, has_config=source.has_config, asked=family
        )

    @property
    def config(self) -> Mapping[str, Any]:
        """The content of config.json; empty if there is none."""
        return self.source.config

    @property
    def tensors(self) -> TensorIndex:
        """Every tensor's header by name, in file order."""
        return self.source.index

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """Every matrix, in the order of the table."""
        return self.assignment.matrices

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Every tensor of two or more dimensions that is in no matrix, with the reason."""
        return self.assignment.skipped

    @cached_property
    def sizes(self) -> ConfigSizes:
        """The sizes config.json states; where stacks have their own, those of the family's first."""
        return self.stack_sizes[self.detection.spec.stack]

    @cached_property
    def stack_sizes(self) -> dict[str, ConfigSizes]:
        """The sizes config.json states, by stack, as far as it tells stacks apart."""
        return stack_sizes(self.config, self.detection.spec)

    @cached_property
    def assignment(self) -> Assignment:
        """What each tensor is."""
        if self._judgement.problem and not self._partial:
            raise FamilyMismatch(
                f"Every layer of {self.source.reference!r} was to be read as family "
                f"{self.detection.spec.name!r}.",
                self._judgement.problem,
                f"{self._judgement.remedy}, or take it as it is: --partial (in Python partial=True).",
            )
        return self._assigned

    @cached_property
    def _assigned(self) -> Assignment:
        """The same, whether or not layers are missing."""
        spec = self.detection.spec
        if spec.name != UNKNOWN and not self._as_asked:
            check_one_family(self.tensors, spec)
        tied = {**self.source.tied, **stored_copies(self.tensors, spec, self.config)}
        assignment = assign(self.tensors, spec, self.stack_sizes, tied, applied(same_bytes, self.source))
        if spec.name != UNKNOWN:
            check_heads(assignment, self.stack_sizes)
            check_widths(assignment, self.stack_sizes)
            check_experts(assignment.matrices, spec.name, stated=self.sizes.experts)
        return assignment

    @cached_property
    def _judgement(self) -> Judgement:
        return judge(self.tensors, self._assigned, self.config, self.stack_sizes, as_asked=self._as_asked)

    @property
    def strangers(self) -> tuple[str, ...]:
        """Matrices in layers under names that the family does not know, while it misses some there."""
        return self._judgement.strangers

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences the user should see: what was passed over, assumed or contradictory."""
        self.assignment  # noqa: B018 - what cannot be read is raised, not noted
        return (*self.source.notes, *self.detection.notes, *self._judgement.notes)

    def find(self, **key: Any) -> Matrix:
        """The one matrix with these key columns, such as `layer=5, group="Q"`.

        Raises:
            SelectionError: None or several have them.
        """
        return find_matrix(self.matrices, **key)

    def matrix(self, **key: Any) -> torch.Tensor:
        """One matrix as the model uses it, shape (out_features, in_features), in its stored dtype.

        Only its own tensors are read.

        Args:
            **key: Columns that single it out, such as `layer=5, group="Q"`.

        Raises:
            SelectionError: None or several matrices have this key.
        """
        import torch

        from weightscope.families.gather import slice_of

        parts = self.find(**key).slices
        read = {info: self.source.read(info) for info in dict.fromkeys(part.tensor for part in parts)}
        pieces = [slice_of(read[part.tensor], part) for part in parts]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def svd(self, *, k: int = 32, **key: Any) -> TruncatedSVD:
        """The k largest singular triplets of one matrix, from a full SVD in float64.

        Args:
            k: How many; all of them if the matrix has fewer.
            **key: As for `matrix`.

        Raises:
            SelectionError: None or several matrices have this key.
        """
        import torch

        left, values, right = torch.linalg.svd(self.matrix(**key).to(torch.float64), full_matrices=False)
        return TruncatedSVD(left[:, :k], values[:k], right[:k])

    def close(self) -> None:
        """Close the files."""
        self.source.close()

    def __enter__(self) -> Self:
        """The checkpoint itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()


class Opening(TypedDict, total=False):
    """What `open_checkpoint` takes beside the source, for functions that hand it on."""

    revision: str | None
    subfolder: str | None
    family: str | FamilySpec | None
    allow_pickle: bool
    cache: bool
    connections: int
    verify: bool
    partial: bool


def open_checkpoint(
    source: Openable,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    family: str | FamilySpec | None = None,
    allow_pickle: bool = False,
    cache: bool = False,
    connections: int = DEFAULT_CONNECTIONS,
    verify: bool = False,
    partial: bool = False,
) -> Checkpoint:
    """Open a checkpoint: headers and config now, weights when asked.

    Args:
        source: A reference such as `demo` or `microsoft/phi-2`, a path, a live `nn.Module` or a state dict.
        revision: Branch, tag or commit of a repository on the Hub; its default branch if None.
        subfolder: Folder inside the repository, or inside the path.
        family: Name of a family, path of a family file, or a `FamilySpec`; found by itself if None.
        allow_pickle: Whether `.bin` and `.pt` files may be loaded, tensors only.
        cache: Whether to download a repository's files into the Hub's cache first, rather than to read the
            parts that are needed.
        connections: To the Hub at once, in [1, 64].
        verify: Whether to compare whole files with the Hub's digests first; not for what is streamed.
        partial: Whether layers, or parts of them, may be missing, and the config may state other sizes where
            nothing is split by them; else that is an error when matrices are asked for.

    Examples:
        >>> with open_checkpoint("demo") as checkpoint:
        ...     checkpoint.matrix(layer=0, group="Q").shape
        torch.Size([128, 128])

    Raises:
        CheckpointNotFound: Nothing is there.
        CheckpointFormatError: What is there cannot be trusted.
        AccessDenied: It may not be read.
        TransferError: The network or the Hub failed too often.
        QuantizedCheckpointError: It holds codes.
        UnknownFamily: `family` cannot be used.
        FamilyMismatch: The family does not fit the tensors. What is found when they are given their roles,
            such as layers that are missing, is raised by the first use of `matrices` and what needs them.
    """
    spec = load_family(family) if isinstance(family, str) else family
    reading = Reading(
        allow_pickle=allow_pickle,
        revision=revision,
        subfolder=subfolder,
        cache=cache,
        connections=connections,
        verify=verify,
    )
    with ExitStack() as to_close:
        opened = to_close.enter_context(open_source(source, reading))
        checkpoint = Checkpoint(opened, spec, partial=partial)
        to_close.pop_all()  # all is well: it stays open
    return checkpoint
