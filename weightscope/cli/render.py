"""What the commands print: tables for people on stdout, notes on stderr."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from weightscope.coverage import coverage_line

if TYPE_CHECKING:
    from weightscope.analysis import Analysis
    from weightscope.checkpoint import Checkpoint
    from weightscope.estimate import Estimate
    from weightscope.inspection import Inspection, StackSizes

NOTHING = "–"


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal; 100 columns where there is none, so that logs keep their lines."""
    found = Console(stderr=stderr, highlight=False)
    if not found.is_terminal and "COLUMNS" not in os.environ:
        return Console(stderr=stderr, highlight=False, width=100)
    return found


def notes(sentences: Sequence[str], guesses: Sequence[str]) -> None:
    """What was assumed or passed over, and every guess, on stderr."""
    out = console(stderr=True)
    for note in sentences:
        out.print(Text(f"note: {note}"), style="yellow", soft_wrap=True)
    for guess in guesses:
        out.print(Text(f"  guess: {guess}"), soft_wrap=True)


def analysis(found: Analysis, files: Sequence[Path]) -> None:
    """The table by group, the coverage line, norm preservation, and where the files are."""
    out = console()
    summary = found.summary
    out.print(Text(f"{summary['checkpoint']}  ({summary['family']})", style="bold"), soft_wrap=True)
    if summary["groups"]:
        print_whole(out, _group_table(summary["groups"]))
        if summary["all"]["groups"]:
            out.print(_over_all(summary["all"]))
        out.print(_preservation(summary["norm_preservation"]))
    else:
        out.print(_nothing_selected(found))
    out.print(Text(coverage_line(summary["coverage"])))
    bad = found.table[found.table["status"] != "ok"]
    for status, parameter in zip(bad["status"], bad["parameter"], strict=True):
        out.print(Text(f"  {status}: {parameter}", style="red"), soft_wrap=True)
    if resumed := found.provenance["resumed"]:
        out.print(Text(f"{resumed} of them from the journal of the interrupted run"))
    seconds = found.provenance["seconds"]["total"]
    read = found.provenance["bytes"]["received"]
    out.print(Text(f"{byte_count(read)} read, {seconds:.2f} s on {found.provenance['device']['type']}"))
    if files:
        out.print(
            Text(f"{len(files)} files in {files[0].parent}{os.sep}: {', '.join(f.name for f in files)}")
        )
    else:
        out.print(Text("Nothing was written; --out DIR saves tables and plots.", style="dim"))


def _group_table(groups: Sequence[Mapping[str, Any]]) -> Table:
    # Collapsed padding: with the widest numbers the table just fits 80 columns.
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("group", overflow="fold")
    for name in ("layers", "stable rank", "Gaussian", "spectral norm", "Frobenius norm"):
        table.add_column(name, justify="right", no_wrap=True)
    several = (
        len({(entry["stack"], entry["attention_kind"]) for entry in groups if entry["attention_kind"]}) > 1
    )
    for entry in groups:
        place = [entry["stack"], entry["attention_kind"]] if several else []
        table.add_row(
            " ".join(part for part in (*place, _role(entry)) if part),
            str(entry["layers"] or NOTHING),
            _mean_min_max(entry["stable_rank"]),
            figure(entry["stable_rank_gaussian"]),
            _mean_min_max(entry["spectral_norm"]),
            _mean_min_max(entry["frobenius_norm"]),
        )
    over = "layers and experts" if any(entry["experts"] for entry in groups) else "layers"
    table.caption = (
        f"mean, then min–max over {over}; stable rank is ‖W‖_F/‖W‖₂, not squared;\n"
        "Gaussian: the stable rank of a random matrix of the same shape"
    )
    table.caption_justify = "left"
    return table


def _role(entry: Mapping[str, Any]) -> str:
    """The group of an entry of the summary, and whether it is of experts."""
    count = f"{entry['experts']} " if entry.get("experts") else ""
    what = {"numbered": f" ({count}experts)", "shared": " (shared)"}.get(entry["expert"], "")
    return f"{entry['group']}{what}"


def print_whole(out: Console, table: Table) -> None:
    """Print a table as wide as it needs: a narrow terminal breaks its lines, and loses no column."""
    width = Console(width=10_000).measure(table).maximum
    whole = out if width <= out.width else Console(file=out.file, width=width, highlight=False)
    whole.print(table)


def _over_all(entry: Mapping[str, Any]) -> Text:
    return Text(
        f"over {', '.join(entry['groups'])}:\n"
        f"  mean of 1/stable rank {figure(entry['mean_inverse_stable_rank'])}, "
        f"harmonic mean of stable rank {figure(entry['harmonic_mean_stable_rank'])}"
    )


def _preservation(found: Mapping[str, Any]) -> Text:
    within = [entry for entry in found["within_layers"] if entry["max_over_min"] is not None]
    if not within:
        return Text("norm preservation: no layer has all of QKV, M1 and M2")
    worst = max(within, key=lambda entry: float(entry["max_over_min"]))
    spread = sum(entry["coefficient_of_variation"] for entry in within) / len(within)
    over = [entry for entry in found["over_layers"] if entry["group"] in found["groups"]]
    several = len({entry["stack"] for entry in over}) > 1
    place = f"{worst['stack'] + ' ' if several else ''}layer {worst['layer']}"
    layers = ", ".join(
        f"{entry['stack'] + ' ' if several else ''}{_role(entry)} {figure(entry['max_over_min'])}"
        for entry in over
    )
    return Text(
        "norm preservation, Frobenius norms of QKV, M1 and M2:\n"
        f"  within a layer: max/min up to {figure(worst['max_over_min'])} ({place}), "
        f"mean coefficient of variation {figure(spread)}\n"
        f"  over the layers: max/min {layers}"
    )


def _nothing_selected(found: Analysis) -> Text:
    reasons = found.skipped[found.skipped["status"] == "not_selected"]["reason"]
    groups = ", ".join(
        sorted({part for reason in reasons for part in reason.removeprefix("group ").split(", ")})
    )
    there = (
        f"What there is belongs to: {groups}. --groups all analyses it." if groups else "There is no matrix."
    )
    return Text(f"No matrix belongs to the selected groups and layers. {there}")


def dry_run(checkpoint: Checkpoint, found: Estimate, *, as_json: bool) -> None:
    """The plan."""
    out = console()
    if as_json:
        out.file.write(
            json.dumps({"checkpoint": checkpoint.source.reference, **found.as_dict()}, indent=2) + "\n"
        )
        return
    out.print(Text(f"{checkpoint.source.reference}  ({checkpoint.detection.spec.name})", style="bold"))
    out.print(
        Text(
            f"{found.matrices} matrices from {found.tensors} tensors, {byte_count(found.read_bytes)} to read"
        )
    )
    out.print(Text(f"memory for tensors and solvers: {byte_count(found.memory_bytes)} on {found.device}"))
    if found.streamed:
        out.print(Text(f"matrices that do not fit as a whole and are read in blocks: {found.streamed}"))
    out.print(Text(f"time: about {duration(found.estimated_seconds)} ({_what_is_estimated(found)})"))


def _what_is_estimated(found: Estimate) -> str:
    if found.download_bytes:
        return f"an estimate, beside the download of {byte_count(found.download_bytes)}"
    return "an estimate, with the files in the page cache"


def inspection(found: Inspection) -> None:
    """Table 1 for one checkpoint, and its parameters by group."""
    out = console()
    architectures = f", {', '.join(found.architectures)}" if found.architectures else ""
    out.print(Text(f"{found.checkpoint}  ({found.family}{architectures})", style="bold"), soft_wrap=True)
    if several := len(found.stacks) > 1:
        out.print(_stacks_table(found.stacks))
    of_stack = {} if several else {label: getattr(found, name) for label, name in _STACK_SIZES.items()}
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
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("group")
    table.add_column("matrices", justify="right")
    table.add_column("shape", justify="right")
    table.add_column("parameters", overflow="fold")
    for entry in found.groups:
        shapes = [f"{m}×{n}" for m, n in entry.shapes[:3]] + (["…"] if len(entry.shapes) > 3 else [])
        role = _role({"group": entry.group, "expert": entry.expert})
        place = " ".join(part for part in (entry.stack, entry.attention_kind, role) if part)
        names = list(entry.parameters[:6]) + (["…"] if len(entry.parameters) > 6 else [])
        # As Text: in a str rich would take a name's brackets for markup.
        table.add_row(place, str(entry.matrices), ", ".join(shapes), Text("\n".join(names)))
    out.print(table)
    for name, reason in found.skipped[:10]:
        out.print(Text(f"skipped: {name} ({reason})"), soft_wrap=True)
    if len(found.skipped) > 10:
        out.print(Text(f"skipped: {len(found.skipped) - 10} more (--json lists them)"))


_STACK_SIZES = {
    "layers": "layers",
    "model dimension": "model_dimension",
    "FF dimension": "feed_forward_dimension",
    "heads": "heads",
    "kv heads": "kv_heads",
}


def _labelled(values: Mapping[str, object]) -> Table:
    """A line for each value."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(min_width=max(map(len, _STACK_SIZES)))
    for label, value in values.items():
        table.add_row(label, NOTHING if value is None else str(value))
    return table


def _stacks_table(stacks: Sequence[StackSizes]) -> Table:
    """A line for each size, a column for each stack."""
    table = Table(box=None, show_header=True, header_style="", pad_edge=False)
    table.add_column("", min_width=max(map(len, _STACK_SIZES)))
    for stack in stacks:
        table.add_column(stack.stack or NOTHING)
    for label, name in _STACK_SIZES.items():
        values = (getattr(stack, name) for stack in stacks)
        table.add_row(label, *(NOTHING if value is None else str(value) for value in values))
    return table


def _mean_min_max(entry: Mapping[str, float | None]) -> str:
    if entry["mean"] is None:
        return NOTHING
    if entry["min"] == entry["max"]:
        return figure(entry["mean"])
    return f"{figure(entry['mean'])}  {figure(entry['min'])}–{figure(entry['max'])}"


def figure(value: float | None) -> str:
    """Three significant digits, without an exponent where that reads well."""
    if value is None:
        return NOTHING
    if 100 <= abs(value) < 1e5:
        return f"{value:.0f}"
    if value == 0 or 1e-3 <= abs(value) < 100:
        return f"{value:#.3g}"
    return f"{value:.2e}"


def duration(seconds: float) -> str:
    """Seconds in the unit that reads best."""
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 99.5 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def byte_count(count: int) -> str:
    """Bytes in the unit that reads best."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
