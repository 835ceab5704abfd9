"""Sizes that config.json states and nothing is split by, beside those that the tensors have.

Such a config still makes a correct reading possible. But one of the two is wrong, and nobody can see which.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from weightscope.counting import counted
from weightscope.families.guess import UNKNOWN
from weightscope.families.matrix import Matrix
from weightscope.families.sizes import ConfigSizes, config_levels, whole_number
from weightscope.families.spec import FamilySpec, Group

# A stack's own count of layers, or that of its part of the config, comes before the model's.
_STACK_KEYS = ("{}_layers", "num_{}_layers", "{}_config.num_hidden_layers", "{}_config.num_layers")


# Tables of segments or languages, which are embeddings too.
_OF_FEW = re.compile("type|segment|lang")


def stated_layers(
    config: Mapping[str, Any],
    sizes: Mapping[str, ConfigSizes],
    spec: FamilySpec,
    stack: str,
    *,
    alone: bool,
) -> int | None:
    """How many layers the config says that a stack has; None if it does not say."""
    if "layers" in spec.stack_keys.get(stack, {}):
        return sizes[stack].layers
    for key in _STACK_KEYS:
        outer, _, inner = key.format(stack).rpartition(".")
        level = config.get(outer) if outer else config
        count = level.get(inner) if isinstance(level, Mapping) else None
        if (number := whole_number(count)) is not None:
            return number
    own = spec.config_keys.get("layers", "")
    # Where a family counts otherwise, as ALBERT does, the usual key means something else.
    if own and "." not in own and not any(own in level for level in config_levels(config)):
        return None
    # A guessed family has one count, which with several stacks may be any one's.
    return sizes[stack].layers if stack == spec.stack and (alone or spec.name != UNKNOWN) else None


def contradictions(
    matrices: Sequence[Matrix],
    spec: FamilySpec,
    config: Mapping[str, Any],
    sizes: Mapping[str, ConfigSizes],
) -> tuple[str, ...]:
    """What the config states otherwise, a sentence each; empty for guessed families.

    A width counts as stated wrongly if no layer of the stack has it: pruned models have layers of several.

    Args:
        matrices: Of a whole checkpoint.
        spec: Its family.
        config: The content of config.json.
        sizes: What it states, by stack.
    """
    if spec.name == UNKNOWN:
        return ()
    found: list[str] = []
    layered = [matrix for matrix in matrices if matrix.layer is not None]
    stacks = list(dict.fromkeys(matrix.stack for matrix in layered))
    for stack in stacks:
        of = f" of stack {stack!r}" if len(stacks) > 1 else ""
        own = [matrix for matrix in layered if matrix.stack == stack]
        stated = stated_layers(config, sizes, spec, stack, alone=len(stacks) == 1)
        if stated and (depth := len({matrix.layer for matrix in own})) > stated:
            layers = counted(stated, "layer")
            found.append(f"config.json states {layers}{of}, and the tensors have {depth}.")
        if stack not in sizes:
            continue
        first = [matrix for matrix in own if matrix.group == Group.M1]
        said = sizes[stack]
        found += _otherwise(
            f"a feed-forward width{of}", said.feed_forward_dimension, (m for m in first if not m.expert)
        )
        found += _otherwise(
            f"experts{of} of a width", said.expert_dimension, (m for m in first if m.expert.isdecimal())
        )
        found += _otherwise(
            f"a shared expert{of} of a width",
            said.shared_expert_dimension,
            (m for m in first if m.expert == "shared"),
        )
        found += _otherwise(
            f"a latent dimension{of} of queries",
            said.query_latent_dim,
            (m for m in own if m.group == Group.Q_A),
        )
        groups = {matrix.group for matrix in own}
        if said.query_latent_dim and Group.KV_A in groups and Group.Q_A not in groups:
            found.append(
                f"config.json states a latent dimension{of} of queries of {said.query_latent_dim}, and no "
                "layer has Q_A."
            )
    return (*found, *_too_few_tokens(matrices, sizes), *_of_no_width(matrices, config, sizes))


def _otherwise(what: str, stated: int | None, matrices: Iterable[Matrix]) -> list[str]:
    rows = {matrix.shape[0] for matrix in matrices}
    if not stated or not rows or stated in rows:
        return []
    listed = " and ".join(map(str, sorted(rows)[:4]))
    return [f"config.json states {what} of {stated}, and the tensors have {listed}."]


def _of_no_width(
    matrices: Iterable[Matrix], config: Mapping[str, Any], sizes: Mapping[str, ConfigSizes]
) -> list[str]:
    """An embedding may be narrower than the model, and then the config says so under some key."""
    if not all(own.model_dimension for own in sizes.values()):
        return []
    numbers = set(_numbers(config))
    for matrix in matrices:
        columns = matrix.shape[1]
        of_tokens = matrix.group in (Group.EMBEDDING, Group.UNEMBEDDING)
        if of_tokens and not _OF_FEW.search(matrix.parameter) and columns not in numbers:
            return [f"{matrix.parameter!r} has {columns} columns, a number that config.json nowhere has."]
    return []


def _numbers(config: Mapping[str, Any], depth: int = 3) -> Iterator[int]:
    """Every whole number in a config and what is nested in it."""
    for value in config.values():
        if isinstance(value, Mapping) and depth:
            yield from _numbers(value, depth - 1)
        elif (number := whole_number(value)) is not None:
            yield number


def _too_few_tokens(matrices: Iterable[Matrix], sizes: Mapping[str, ConfigSizes]) -> list[str]:
    """More rows than tokens are common: tables are padded to round numbers."""
    stated = min((own.vocabulary for own in sizes.values() if own.vocabulary), default=0)
    tables = [
        matrix.shape[0]
        for matrix in matrices
        if matrix.group == Group.EMBEDDING and not _OF_FEW.search(matrix.parameter)
    ]
    if not tables or max(tables) >= stated:
        return []
    return [f"config.json states {stated} tokens, and the largest embedding has {max(tables)} rows."]
