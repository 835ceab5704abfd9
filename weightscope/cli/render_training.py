"""What an experiment that trains prints at its end: the claims, what they rest on, the files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from weightscope.cli.render import NOTHING, console, duration, figure, print_whole
from weightscope.cli.render_recipe import heading

if TYPE_CHECKING:
    from weightscope.recipes.load import LoadedRecipe
    from weightscope.recipes.training import TrainingOutcome
    from weightscope.training.claims import Claim

_COLOURS = {"held": "green", "not_held": "red", "undecided": "yellow"}


def outcome(loaded: LoadedRecipe, folder: Path, found: TrainingOutcome) -> None:
    """The table of claims, a line of reasons for each that has some, the files."""
    out = console()
    heading(loaded)
    print_whole(out, _claims([claim for claim in found.claims if not claim.control], "claim"))
    if controls := [claim for claim in found.claims if claim.control]:
        print_whole(out, _claims(controls, "negative control"))
    for claim in found.claims:
        if claim.detail:
            out.print(Text(f"{claim.id}: {claim.detail}"), soft_wrap=True)
    doubts: dict[str, list[str]] = {}
    for claim in found.claims:
        if claim.reason:
            doubts.setdefault(claim.reason, []).append(claim.id)
    for reason, names in doubts.items():
        whose = "all" if len(names) == len(found.claims) else ", ".join(names)
        out.print(Text(f"undecided ({whose}): {reason}"), soft_wrap=True)
    for claim in found.claims:
        if claim.control and claim.verdict == "held":
            sentence = f"{claim.id} holds too, and ought not to: its claim says little here."
            out.print(Text(sentence, style="yellow"), soft_wrap=True)
    if not found.files:
        out.print(Text(f"These results were in {folder}{os.sep} already."))
        return
    nets = [file for file in found.files if file.parent.name == "nets"]
    others = ", ".join(file.name for file in found.files if file not in nets)
    out.print(
        Text(f"{duration(found.seconds)}; in {folder}{os.sep}: {others}, and nets{os.sep}"), soft_wrap=True
    )
    if nets:
        out.print(
            Text(f"Their spectra:  weightscope analyze {nets[0]} --groups all", style="dim"), soft_wrap=True
        )


def _claims(claims: list[Claim], title: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(title, overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for name in ("value", "holds if", "95 % interval", "draws"):
        table.add_column(name, justify="right", no_wrap=name != "holds if")
    for claim in claims:
        colour = "dim" if claim.control else _COLOURS[claim.verdict]
        table.add_row(
            Text(claim.id),
            Text(claim.verdict.replace("_", " "), style=colour),
            figure(claim.as_dict()["value"]),
            Text(claim.threshold),
            NOTHING
            if claim.interval is None
            else f"{figure(claim.interval[0])} to {figure(claim.interval[1])}",
            str(claim.draws),
        )
    return table
