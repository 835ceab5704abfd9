"""What `inspect` prints: sizes, and which parameters have which role."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from weightscope.cli.render import NOTHING, console, role, several_places, width_of
from weightscope.counting import counted

if TYPE_CHECKING:
    from weightscope.group_entries import GroupEntry, TemplateEntry
    from weightscope.inspection import Inspection, StackSizes

_SIZES = {
    "layers": "layers",
    "model dimension": "model_dimension",
    "FF dimension": "feed_forward_dimension",
    "heads": "heads",
    "kv heads": "kv_heads",
    "head dimension": "head_dimension",
}
# Of mixtures alone, behind the width of dense layers.
_OF_EXPERTS = {"expert FF dimension": "expert_feed_forward_dimension"}
# What is listed of an entry before an ellipsis.
_MOST_SHAPES, _MOST_NAMES, _MOST_SKIPPED = 3, 12, 10
# Narrower than this a column of names is no help.
_LEAST_WIDTH = 24


def inspection(found: Inspection) -> None:
    """Table 1 for one checkpoint, and its parameters by group."""
    out = console()
    architectures = f", {', '.join(found.architectures)}" if found.architectures else ""
    out.print(Text(f"{found.checkpoint}  ({found.family}{architectures})", style="bold"), soft_wrap=True)
    if several := len(found.stacks) > 1:
        out.print(_stacks_table(found.stacks))
    of_stack = (
        {} if several else {label: getattr(found, name) for label, name in _sizes(found.stacks).items()}
    )
    whole = {
        **of_stack,
        **({"experts": found.experts} if found.experts else {}),
        "vocabulary": found.vocabulary,
        "parameters": f"{found.parameters:,}",
        "dtypes": ", ".join(found.dtypes),
        "bytes": f"{found.bytes:,}",
        "shards": found.shards,
    }
    out.print(_labelled(whole))
    empty = _group_table(found.groups, None)
    room = out.width - width_of(empty) + len("parameters")
    out.print(_group_table(found.groups, max(room, _LEAST_WIDTH)))
    for name, reason in found.skipped[:_MOST_SKIPPED]:
        out.print(Text(f"skipped: {name} ({reason})"), soft_wrap=True)
    if len(found.skipped) > _MOST_SKIPPED:
        out.print(Text(f"skipped: {len(found.skipped) - _MOST_SKIPPED} more (--json lists them)"))


def _sizes(stacks: Sequence[StackSizes]) -> dict[str, str]:
    """Which sizes are printed, and what they are called in an `Inspection`."""
    of_experts = any(stack.expert_feed_forward_dimension for stack in stacks)
    found = {}
    for label, name in _SIZES.items():
        found[label] = name
        if of_experts and name == "feed_forward_dimension":
            found |= _OF_EXPERTS
    return found


def _labelled(values: Mapping[str, object]) -> Table:
    """A line for each value."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(min_width=max(map(len, _SIZES)))
    for label, value in values.items():
        table.add_row(label, NOTHING if value is None else str(value))
    return table


def _stacks_table(stacks: Sequence[StackSizes]) -> Table:
    """A line for each size, a column for each stack."""
    table = Table(box=None, show_header=True, header_style="", pad_edge=False)
    table.add_column("", min_width=max(map(len, _SIZES)))
    for stack in stacks:
        table.add_column(stack.stack or NOTHING)
    for label, name in _sizes(stacks).items():
        values = (getattr(stack, name) for stack in stacks)
        table.add_row(label, *(NOTHING if value is None else str(value) for value in values))
    return table


def _group_table(groups: Sequence[GroupEntry], room: int | None) -> Table:
    """A row for each name of a group, in lines of at most `room`; without names if that is None."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("group")
    table.add_column("matrices", justify="right")
    table.add_column("shape", justify="right", no_wrap=True)
    table.add_column("parameters", overflow="fold")
    several = several_places((entry.stack, entry.attention_kind) for entry in groups)
    for entry in groups:
        place = (entry.stack, entry.attention_kind) if several else ()
        of_whom = role({"group": entry.group, "expert": entry.expert})
        named = " ".join(part for part in (*place, of_whom) if part)
        for template in entry.templates[:_MOST_NAMES]:
            lines = [] if room is None else in_lines(together(template.parameter), room)
            # As Text: in a str rich would take a name's brackets for markup.
            table.add_row(
                Text(named), str(template.matrices), "\n".join(_shapes(template)), Text("\n".join(lines))
            )
            named = ""
        if rest := entry.templates[_MOST_NAMES:]:
            matrices = sum(template.matrices for template in rest)
            table.add_row("", str(matrices), "", f"… {counted(len(rest), 'more name')} (--json)")
    return table


def _shapes(template: TemplateEntry) -> list[str]:
    shapes = [f"{m}×{n}" for m, n in template.shapes[:_MOST_SHAPES]]
    return [*shapes, "…"] if len(template.shapes) > _MOST_SHAPES else shapes


def together(parameter: str) -> str:
    """The names of a stacked matrix as one, what differs in braces.

    Examples:
        >>> together("h.*.q_proj.weight+h.*.k_proj.weight+h.*.v_proj.weight")
        'h.*.{q,k,v}_proj.weight'
    """
    names = parameter.split("+")
    before = _beginning(names)
    rest = [name[len(before) :] for name in names]
    after = _beginning([name[::-1] for name in rest])[::-1]
    middle = [name[: len(name) - len(after)] for name in rest]
    if len(names) == 1 or not all(middle):
        return parameter
    return f"{before}{{{','.join(middle)}}}{after}"


def _beginning(names: Sequence[str]) -> str:
    """What all of them begin with."""
    alike = (len(set(letters)) == 1 for letters in zip(*names, strict=False))
    return names[0][: sum(takewhile(bool, alike))]


def in_lines(name: str, room: int) -> list[str]:
    """A name in lines of at most `room`, broken behind a dot or a plus and never inside a word that fits.

    Examples:
        >>> in_lines("model.layers.*.mlp.up_proj.weight", 24)
        ['model.layers.*.mlp.', '  up_proj.weight']
    """
    lines = [""]
    for piece in re.findall(r"[^.+]*[.+]|[^.+]+", name):
        if lines[-1].strip() and len(lines[-1]) + len(piece) > room:
            lines.append("  ")
        lines[-1] += piece
    return lines
