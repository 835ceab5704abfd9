"""Which stored tensors are second copies of others, as far as family and config say so."""

from collections.abc import Mapping
from typing import Any

from weightscope.checkpoints.header import TensorIndex
from weightscope.families.matching import NameMatcher, without_wrappers
from weightscope.families.sizes import config_levels
from weightscope.families.spec import CopyPattern, FamilySpec, Group, MatrixPattern

_TIED = "tie_word_embeddings"


def stored_copies(index: TensorIndex, spec: FamilySpec, config: Mapping[str, Any]) -> dict[str, str]:
    """Name of each copy to the name of what it is a copy of.

    One of another shape or type is none. No weight is read: that the model takes one for the other is what
    counts. Of every family the head is a copy where the config says `tie_word_embeddings: true`.
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
    return _tied_head(index, spec, config) | copies


def _tied_head(index: TensorIndex, spec: FamilySpec, config: Mapping[str, Any]) -> dict[str, str]:
    """The stored head of a model that has none of its own, if one embedding is what it can be."""
    if next((level[_TIED] for level in config_levels(config) if _TIED in level), None) is not True:
        return {}
    matcher = NameMatcher(spec)
    found: dict[Group, list[str]] = {Group.EMBEDDING: [], Group.UNEMBEDDING: []}
    for name in index:
        match = matcher.match(name)
        if match is None or match.layer is not None or not isinstance(match.pattern, MatrixPattern):
            continue
        if match.pattern.group in found:
            found[match.pattern.group].append(name)
    if len(found[Group.UNEMBEDDING]) != 1:
        return {}
    (head,) = found[Group.UNEMBEDDING]
    owners = [
        name
        for name in found[Group.EMBEDDING]
        if (index[name].shape, index[name].dtype) == (index[head].shape, index[head].dtype)
    ]
    return {head: owners[0]} if len(owners) == 1 else {}


def _holds(pattern: CopyPattern, config: Mapping[str, Any]) -> bool:
    return not pattern.unless or (bool(config) and config.get(pattern.unless) is not False)
