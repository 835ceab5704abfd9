"""Whether every layer of a checkpoint is there, and has what the other layers have.

A layer is there if any tensor has its number: hybrid models have layers without attention, which are told
from broken ones by what stands in its place. Layers that predict further tokens, numbered beyond those that
the config counts as DeepSeek's are, have a stack of their own.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from weightscope.checkpoints.header import TensorIndex
from weightscope.families.assign import Assignment
from weightscope.families.experts import numbered_experts
from weightscope.families.matching import layer_starts, without_wrappers
from weightscope.families.mixers import missing_mixers
from weightscope.families.sizes import ConfigSizes
from weightscope.families.spec import ATTENTION_GROUPS, FEED_FORWARD_GROUPS, Group
from weightscope.families.stated import stated_layers

_MOST_NAMED = 6
_SKIPPED = " (skipped)"
_Parts = dict[int, set[str]]
_Range = tuple[int, int]


def missing_layers(
    index: TensorIndex,
    assignment: Assignment,
    config: Mapping[str, Any],
    sizes: Mapping[str, ConfigSizes],
) -> str:
    """What is missing, in one sentence that names the layers; empty if nothing is."""
    stacks = {matrix.stack for matrix in assignment.matrices if matrix.layer is not None}
    held = layers_held(index, assignment)
    for stack in sorted(stacks):
        templates = held.get(stack, {})
        templates = {layer: parts for layer, parts in templates.items() if layer not in assignment.beyond}
        stated = stated_layers(config, sizes, assignment.family, stack, alone=len(stacks) == 1)
        found = sorted(templates)
        lacking = _gaps(found, max(stated or 0, found[-1] + 1 if found else 0))
        of = f" of stack {stack!r}" if len(stacks) > 1 else ""
        if lacking:
            says = f"config.json states {stated} layers{of}" if stated else f"those{of} go up to {found[-1]}"
            one = sum(last - first + 1 for first, last in lacking) == 1
            missing = f"{_numbered('Layer', lacking)} {'is' if one else 'are'} missing"
            return f"{missing}: {says}, and the tensors have {len(found)}."
        experts = sizes[assignment.family.stack].experts or _routed(assignment, stack)
        problem = _torn(assignment, stack, templates) or missing_mixers(assignment, stack, templates)
        if problem := problem or _without_experts(assignment, stack, experts):
            return problem
    return ""


def layers_held(index: TensorIndex, assignment: Assignment) -> dict[str, dict[int, set[str]]]:
    """For each stack and layer what stands behind its number in the names of its weights."""
    spec = assignment.family
    passed_over = {entry.tensor.name for entry in assignment.skipped if entry.kind == "skipped"}
    stacks: dict[str, set[str]] = defaultdict(set)
    for start, of in layer_starts(spec):
        stacks[start].add(of)
    held: dict[str, _Parts] = {}
    if not stacks:
        return held
    starts = "|".join(re.escape(start) for start in sorted(stacks, key=len, reverse=True))
    layered = re.compile(rf"({starts})(\d{{1,9}})\.(.+)", re.DOTALL)
    for name, info in {**{info.name: info for info in index.unindexed}, **index}.items():
        found = layered.fullmatch(without_wrappers(name))
        if found and (layer := int(found[2]) - spec.first_layer) >= 0:
            for stack in stacks[found[1]]:
                parts = held.setdefault(stack, {}).setdefault(layer, set())
                if len(info.shape) >= 2:
                    parts.add(found[3] + _SKIPPED if name in passed_over else found[3])
    return held


def _torn(assignment: Assignment, stack: str, templates: _Parts) -> str:
    """Which layers lack matrices that at least as many others have, with nothing else in their place."""
    layers: dict[int, set[tuple[str, Group]]] = {layer: set() for layer in templates}
    for matrix in assignment.matrices:
        if matrix.stack == stack and matrix.layer is not None and not matrix.head:
            layers.setdefault(matrix.layer, set()).add((matrix.attention_kind, matrix.group))
    roles = {
        (kind, group)
        for found in layers.values()
        for kind, group in found
        if group in (*ATTENTION_GROUPS, *FEED_FORWARD_GROUPS)
    }
    for kind in {kind for kind, _ in roles}:
        if {(kind, Group.Q), (kind, Group.K), (kind, Group.V)} <= roles:
            roles.discard((kind, Group.QKV))  # made of the three
    whole = [layer for layer, found in layers.items() if roles <= found]
    usual = set().union(*(templates.get(layer, set()) for layer in whole))
    lacking: dict[int, set[tuple[str, Group]]] = {}
    for layer, found in layers.items():
        less = roles - found
        if any(part.endswith(_SKIPPED) for part in templates.get(layer, ())):
            continue  # what is there and skipped with a reason is not missing
        # Some of a part is never enough. A whole part may be another in its place, or the model's own way
        # where most layers have none.
        instead = bool(templates.get(layer, set()) - usual) or 2 * len(whole) < len(layers)
        if instead:
            less = {role for role in less if {_part(other) for other in found} & {_part(role)}}
        if less:
            lacking[layer] = less
    if not lacking:
        return ""
    less = lacking[min(lacking)]
    same = sorted(layer for layer, other in lacking.items() if other == less)
    order = tuple(Group)
    named = ", ".join(
        f"{'cross ' if kind == 'cross' else ''}{group}"
        for kind, group in sorted(less, key=lambda role: (role[0] != "self", order.index(role[1])))
    )
    verb = "lacks" if len(same) == 1 else "lack"
    others = len(lacking) - len(same)
    more = f"; {others} more {'layer is' if others == 1 else 'layers are'} not whole" if others else ""
    return f"{_numbered('Layer', _ranges(same))} {verb} {named}, which other layers have{more}."


def _part(role: tuple[str, Group]) -> tuple[str, bool]:
    """Which attention a role belongs to, or that it is of the feed-forward part."""
    return role[0], role[1] in FEED_FORWARD_GROUPS


def _routed(assignment: Assignment, stack: str) -> int | None:
    """Experts among which every router of a stack chooses; None if they differ, or there is none."""
    rows = {m.shape[0] for m in assignment.matrices if m.stack == stack and m.group == Group.ROUTER}
    return next(iter(rows)) if len(rows) == 1 else None


def _without_experts(assignment: Assignment, stack: str, stated: int | None) -> str:
    """Which layer lacks an expert that the config or another layer has, or a part of one."""
    found = numbered_experts(assignment.matrices)
    layers = {layer: experts for (of, layer), experts in found.items() if of == stack}
    count = stated or max((max(experts) + 1 for experts in layers.values()), default=0)
    for layer, experts in sorted(layers.items()):
        if lacking := _gaps(sorted(experts), count):
            return f"Layer {layer} lacks {_numbered('expert', lacking)} of {count}."
        parts = set().union(*experts.values())
        for expert, groups in sorted(experts.items()):
            if less := [group for group in Group if group in parts - groups]:
                return f"Expert {expert} of layer {layer} lacks {', '.join(less)}, which other experts have."
    return _without_parts_of_mixtures(assignment, stack, layers)


def _without_parts_of_mixtures(
    assignment: Assignment, stack: str, experts: Mapping[int, Mapping[int, set[Group]]]
) -> str:
    """Which layer lacks a role of its experts, of the shared one, or the router, that other layers have."""
    found: dict[str, dict[int, set[Group]]] = {
        "its experts lack": {layer: set().union(*those.values()) for layer, those in experts.items()},
        "its shared expert lacks": {},
        "it lacks": {layer: set() for layer in experts},
    }
    for matrix in assignment.matrices:
        if matrix.stack != stack or matrix.layer is None:
            continue
        if matrix.expert == "shared":
            found["its shared expert lacks"].setdefault(matrix.layer, set()).add(matrix.group)
        elif matrix.group == Group.ROUTER and matrix.layer in experts:
            found["it lacks"][matrix.layer].add(matrix.group)
    for what, layers in found.items():
        every = set().union(*layers.values())
        for layer, groups in sorted(layers.items()):
            if less := [group for group in Group if group in every - groups]:
                return f"Layer {layer} is not whole: {what} {', '.join(less)}, which other layers have."
    return ""


def _gaps(found: Sequence[int], end: int) -> list[_Range]:
    """What is missing of 0 to end - 1: ranges, since a hostile number may leave a billion."""
    gaps, start = [], 0
    for number in [*found, end]:
        if number > start:
            gaps.append((start, number - 1))
        start = number + 1
    return gaps


def _ranges(numbers: Sequence[int]) -> list[_Range]:
    """Ascending numbers as ranges."""
    ranges: list[_Range] = []
    for number in numbers:
        after = bool(ranges) and ranges[-1][1] == number - 1
        ranges[-1:] = [(ranges[-1][0], number)] if after else [*ranges[-1:], (number, number)]
    return ranges


def _numbered(noun: str, ranges: Sequence[_Range]) -> str:
    """`Layer 3`, `Layers 8-11 and 16`."""
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    if len(texts) > _MOST_NAMED:
        texts = [*texts[:_MOST_NAMED], f"{len(texts) - _MOST_NAMED} more ranges"]
    listed = f"{', '.join(texts[:-1])} and {texts[-1]}" if len(texts) > 1 else texts[0]
    return f"{noun}{'s' if len(texts) > 1 or '-' in listed else ''} {listed}"
