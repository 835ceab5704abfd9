"""What `analyze` prints: the table by group, what it comes to, and where the files are."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from weightscope.cli.render import (
    NOTHING,
    byte_count,
    console,
    figure,
    print_hanging,
    print_whole,
    role,
    several_places,
    width_of,
)
from weightscope.counting import counted, listed
from weightscope.coverage import NOT_SELECTED, coverage_line
from weightscope.families.spec import DEFAULT_GROUPS, LATENT_ATTENTION_GROUPS
from weightscope.plots import drawable

if TYPE_CHECKING:
    from weightscope.analysis import Analysis

_Entry = Mapping[str, Any]


def analysis(found: Analysis, files: Sequence[Path], *, plots: bool = True) -> None:
    """The table by group, the coverage line, norm preservation, and where the files are.

    Args:
        found: What came out.
        files: What was written.
        plots: Whether pictures were wanted.
    """
    out = console()
    summary = found.summary
    out.print(Text(f"{summary['checkpoint']}  ({summary['family']})", style="bold"), soft_wrap=True)
    if summary["groups"]:
        _print_table(out, summary["groups"])
        if summary["all"]["groups"]:
            _print_over_all(out, summary)
        if any(entry["layers"] for entry in summary["groups"]):
            _print_preservation(out, summary["norm_preservation"], found.provenance["options"]["groups"])
    else:
        out.print(_nothing_selected(found))
    out.print(Text(coverage_line(summary["coverage"], found.skipped)))
    bad = found.table[found.table["status"] != "ok"]
    for status, parameter in zip(bad["status"], bad["parameter"], strict=True):
        out.print(Text(f"  {status}: {parameter}", style="red"), soft_wrap=True)
    if resumed := found.provenance["resumed"]:
        out.print(Text(f"{resumed} of them from the journal of the interrupted run"))
    _print_end(out, found, files, plots=plots)


def _print_end(out: Console, found: Analysis, files: Sequence[Path], *, plots: bool) -> None:
    """What it took, and what is where."""
    seconds = found.provenance["seconds"]
    read = byte_count(found.provenance["bytes"]["received"])
    took = f"{read} read, {seconds['total'] - seconds['write']:.2f} s on {found.provenance['device']['type']}"
    pictures = plots and drawable(found.table)
    if not files:
        out.print(Text(took))
        saved = "tables and plots" if pictures else "tables"
        out.print(Text(f"Nothing was written; --out DIR saves {saved}.", style="dim"))
        return
    written = "tables and plots" if pictures else "tables"
    out.print(Text(f"{took}; {written} written in {seconds['write']:.2f} s"))
    names = ", ".join(file.name for file in files)
    out.print(Text(f"{counted(len(files), 'file')} in {files[0].parent}{os.sep}: {names}"))
    if plots and not pictures:
        print_hanging(
            out,
            "No plots: they show attention and feed-forward by layer, and no matrix analysed is of these.",
        )


def _print_table(out: Console, groups: Sequence[_Entry]) -> None:
    """With every range if the terminal is wide enough for them."""
    table = _group_table(groups, ranges=True)
    if not (ranges := width_of(table) <= out.width):
        table = _group_table(groups, ranges=False)
    print_whole(out, table)
    for line in _caption(groups, ranges=ranges):
        print_hanging(out, line)


def _group_table(groups: Sequence[_Entry], *, ranges: bool) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("group", overflow="fold")
    for name in ("layers", "stable rank", "Gaussian", "spectral norm", "Frobenius norm"):
        heading = name if ranges else name.replace(" ", "\n")  # where there is little width
        table.add_column(heading, justify="right", no_wrap=True)
    several = several_places((entry["stack"], entry["attention_kind"]) for entry in groups)
    for entry in groups:
        place = [entry["stack"], entry["attention_kind"]] if several else []
        table.add_row(
            " ".join(part for part in (*place, role(entry)) if part) + _how_many(entry),
            str(entry["layers"] or NOTHING),
            _spread(entry, "stable_rank", ranges=True),
            _gaussian(entry["shapes"]),
            _spread(entry, "spectral_norm", ranges=ranges),
            _spread(entry, "frobenius_norm", ranges=ranges),
        )
    return table


def _caption(groups: Sequence[_Entry], *, ranges: bool) -> list[str]:
    experts = any(entry["experts"] for entry in groups)
    layers = any(entry["layers"] for entry in groups)
    over = "layers and experts" if experts else "layers" if layers else "matrices"
    lines = [
        f"mean, then min–max over {over}; stable rank is ‖W‖_F/‖W‖₂, not squared;",
        "Gaussian: the stable rank of a random matrix of the same shape",
    ]
    if any(_unlike(entry) for entry in groups):
        lines[-1] += ";"
        lines.append("no mean where the matrices of a row differ in shape")
    if not ranges and any(_left_out(entry) for entry in groups):
        lines[-1] += ";"
        lines.append("min–max of the norms: in a wider terminal, or --json")
    return lines


def _unlike(entry: _Entry) -> bool:
    """Whether the matrices of an entry are of several shapes, so that no mean over them means anything."""
    return len(entry["shapes"]) > 1


def _left_out(entry: _Entry) -> bool:
    """Whether a narrow table says less of an entry than a wide one."""
    norms = (entry["spectral_norm"], entry["frobenius_norm"])
    return not _unlike(entry) and any(values["min"] != values["max"] for values in norms)


def _how_many(entry: _Entry) -> str:
    """Outside the layers no other column tells it."""
    outside = not entry["layers"] and entry["matrices"] > 1
    return f" ({entry['matrices']} matrices)" if outside else ""


def _spread(entry: _Entry, name: str, *, ranges: bool) -> str:
    values = entry[name]
    if values["mean"] is None:
        return NOTHING
    if values["min"] == values["max"]:
        return figure(values["mean"])
    if _unlike(entry):
        return _range(values["min"], values["max"])
    both = f"  {_range(values['min'], values['max'])}" if ranges else ""
    return f"{figure(values['mean'])}{both}"


def _gaussian(shapes: Sequence[tuple[int, int]]) -> str:
    """As the column `stable_rank_gaussian`, of each shape."""
    each = [sqrt(m * n) / (sqrt(m) + sqrt(n)) for m, n in shapes if m and n]
    return _range(min(each), max(each)) if each else NOTHING


def _range(low: float, high: float) -> str:
    ends = (figure(low), figure(high))
    return ends[0] if ends[0] == ends[1] else "–".join(ends)


def _print_over_all(out: Console, summary: Mapping[str, Any]) -> None:
    """Over which matrices the means are, so that a reader knows what is counted and what is not."""
    over = summary["all"]
    there = {entry["group"] for entry in summary["groups"]}
    parts = [part for part in ("Q", "K", "V") if part in there]
    counted_parts = [group for group in over["groups"] if group in parts]
    if "QKV" in over["groups"] and parts:
        whole = listed(group for group in over["groups"] if group not in counted_parts)
        what = (
            f"{whole}, and of {listed(counted_parts)} where there is no QKV"
            if counted_parts
            else f"{whole} ({listed(parts)} {'is' if len(parts) == 1 else 'are'} in QKV already)"
        )
    else:
        what = listed(over["groups"])
    print_hanging(out, f"over all matrices of {what}:")
    out.print(
        Text(
            f"  mean of 1/stable rank {figure(over['mean_inverse_stable_rank'])}, "
            f"harmonic mean of stable rank {figure(over['harmonic_mean_stable_rank'])}"
        )
    )
    if latent := [group for group in LATENT_ATTENTION_GROUPS if group in there]:
        print_hanging(
            out, f"  not counted there: {listed(latent)}, latent attention's factors of Q, K and V", 4
        )


def _print_preservation(out: Console, found: Mapping[str, Any], asked: Collection[str]) -> None:
    within = [entry for entry in found["within_layers"] if entry["max_over_min"] is not None]
    if not within:
        if left_out := [group for group in found["groups"] if group not in asked]:
            why = f"norm preservation: needs QKV, M1 and M2 (not selected: {listed(left_out)})"
            print_hanging(out, why)
            return
        out.print(Text("norm preservation: no layer has all of QKV, M1 and M2"))
        return
    worst = max(within, key=lambda entry: float(entry["max_over_min"]))
    spread = sum(entry["coefficient_of_variation"] for entry in within) / len(within)
    over = [entry for entry in found["over_layers"] if entry["group"] in found["groups"]]
    several = len({entry["stack"] for entry in over}) > 1
    place = f"{worst['stack'] + ' ' if several else ''}layer {worst['layer']}"
    layers = ", ".join(
        f"{entry['stack'] + ' ' if several else ''}{role(entry)} {figure(entry['max_over_min'])}"
        for entry in over
    )
    out.print(Text("norm preservation, Frobenius norms of QKV, M1 and M2:"))
    print_hanging(
        out,
        f"  within a layer: max/min up to {figure(worst['max_over_min'])} ({place}), "
        f"mean coefficient of variation {figure(spread)}",
        4,
    )
    print_hanging(out, f"  over the layers: max/min {layers}", 4)


def _nothing_selected(found: Analysis) -> Text:
    """Why there is no row, what there is, and how to have it analysed."""
    reasons = found.skipped[found.skipped["status"] == NOT_SELECTED]["reason"]
    counts = reasons.str.removeprefix("group ").value_counts(sort=False)
    if counts.empty:
        return Text("There is no matrix.")
    options = found.provenance["options"]
    by_default = options["layers"] is None and set(options["groups"]) == set(DEFAULT_GROUPS)
    if by_default:
        why = "No matrix of attention or feed-forward was recognised, and by default only these are analysed."
    elif options["layers"] is None:
        why = f"This checkpoint has no matrix of group {listed(options['groups'], 'or')}."
    else:
        why = "No matrix belongs to the selected groups and layers."
    there = listed(f"{counted(count, 'tensor')} of group {group}" for group, count in counts.items())
    return Text(f"{why} There {'is' if reasons.size == 1 else 'are'} {there}. --groups all analyses them.")
