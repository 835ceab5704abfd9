"""weightscope: norms and ranks of every matrix of a pretrained model.

The public names. Importing the package loads neither torch nor pandas until a name needs them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weightscope.analysis import Analysis, analyze
    from weightscope.checkpoint import Checkpoint, open_checkpoint
    from weightscope.checkpoints.header import TensorInfo
    from weightscope.checkpoints.reference import CheckpointRef
    from weightscope.errors import WeightscopeError
    from weightscope.families.matrix import Matrix
    from weightscope.families.registry import list_families
    from weightscope.families.spec import DEFAULT_GROUPS, FamilySpec, Group, MatrixPattern
    from weightscope.inspection import Inspection, inspect
    from weightscope.table import read_table

_HOME = {
    "Analysis": "analysis",
    "analyze": "analysis",
    "Checkpoint": "checkpoint",
    "CheckpointRef": "checkpoints.reference",
    "DEFAULT_GROUPS": "families.spec",
    "FamilySpec": "families.spec",
    "Group": "families.spec",
    "inspect": "inspection",
    "Inspection": "inspection",
    "list_families": "families.registry",
    "Matrix": "families.assign",
    "MatrixPattern": "families.spec",
    "open_checkpoint": "checkpoint",
    "read_table": "table",
    "TensorInfo": "checkpoints.header",
    "WeightscopeError": "errors",
}

__all__ = [  # noqa: RUF022 - sorted without regard to case, as readers look names up
    "Analysis",
    "analyze",
    "Checkpoint",
    "CheckpointRef",
    "DEFAULT_GROUPS",
    "FamilySpec",
    "Group",
    "inspect",
    "Inspection",
    "list_families",
    "Matrix",
    "MatrixPattern",
    "open_checkpoint",
    "read_table",
    "TensorInfo",
    "WeightscopeError",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"weightscope.{_HOME[name]}"), name)
    raise AttributeError(f"module 'weightscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
