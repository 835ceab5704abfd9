"""Which stored tensors are second copies of others, as far as family and config say so."""

from collections.abc import Mapping
from typing import Any

from weightscope.checkpoints.header import TensorIndex
from weightscope.families.matching import without_wrappers
from weightscope.families.spec import CopyPattern, FamilySpec


def stored_copies(index: TensorIndex, spec: FamilySpec, config: Mapping[str, Any]) -> dict[str, str]:
    """Name of each copy to the name of what it is a copy of.

    One of another shape or type is none. No weight is read: that the model takes one for the other is what
    counts.
    """
    stored = {without_wrappers(name): name for name in index}
    copies: dict[str, str] = {}
    for pattern in spec.copies:
        if not _holds(pattern, config):
            continue
        for prefix in spec.prefixes:
            name, *owners = (
                stored.get(template.replace("{prefix}", prefix))
                for template in (pattern.template, *pattern.of)
            )
            owner = next((owner for owner in owners if owner is not None), None)
            if name is None or owner is None or name in copies:
                continue
            if (index[name].shape, index[name].dtype) == (index[owner].shape, index[owner].dtype):
                copies[name] = owner
    return copies


def _holds(pattern: CopyPattern, config: Mapping[str, Any]) -> bool:
    return not pattern.unless or (bool(config) and config.get(pattern.unless) is not False)
