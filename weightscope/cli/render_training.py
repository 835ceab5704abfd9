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
from weightscope.recipes.training_spec import PAPER, DecayRecipe, MergingRecipe

if TYPE_CHECKING:
    from weightscope.recipes.load import LoadedRecipe
    from weightscope.recipes.training import TrainingOutcome
    from weightscope.training.claims import Claim

_COLOURS = {"held": "green", "not_held": "red", "undecided": "yellow"}


_EXPLAINED = {
    "merging": """\
r: merged over single training loss; e: (merged − single)/(ln 2 − single), 0 where
merging costs nothing, 1 where the merged net knows nothing. Behind the ids: median
[smallest, largest] over draws; of both tasks the worse, of conflicting the mean.""",
    "decay": """\
rank: mean inverse stable rank, (1/K) Σ ‖W_k‖₂/‖W_k‖_F, over the draws whose nets
live; it is the larger, the lower the rank.""",
}
_CONTROLS = "A negative control is the same test where the effect ought to be absent: it ought not to hold."


def beginning(loaded: LoadedRecipe) -> None:
    """Title, what must come out, and which numbers are run: before hours of work."""
    heading(loaded)
    recipe = loaded.recipe
    assert isinstance(recipe, MergingRecipe | DecayRecipe)  # noqa: S101 - those that train
    size = f"size {recipe.size}" + ("" if recipe.size == PAPER else ", smaller than the paper's")
    console().print(Text(f"{size}: {recipe.setting.numbers}"), soft_wrap=True)


def outcome(loaded: LoadedRecipe, folder: Path, found: TrainingOutcome) -> None:
    """The tables of claims, what they rest on, the files."""
    out = console()
    claims = [claim for claim in found.claims if not claim.control]
    controls = [claim for claim in found.claims if claim.control]
    print_whole(out, _claims(claims, "claim"))
    if controls:
        print_whole(out, _claims(controls, "negative control"))
        out.print(Text(_CONTROLS))
    out.print(Text(_EXPLAINED[loaded.recipe.experiment]), soft_wrap=True)
    for claim in claims:
        if claim.detail:
            out.print(Text(f"{claim.id}: {claim.detail}"), soft_wrap=True)
    doubts: dict[str, list[str]] = {}
    for claim in found.claims:
        if claim.reason:
            doubts.setdefault(claim.reason, []).append(claim.id)
    for reason, names in doubts.items():
        whose = "all" if len(names) == len(found.claims) else ", ".join(names)
        out.print(Text(f"undecided ({whose}): {reason}"), soft_wrap=True)
    for claim in controls:
        if claim.verdict == "held":
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
        net = next((file for file in nets if file.stem == "different-merged"), nets[0])
        out.print(
            Text(f"Their spectra:  weightscope analyze {net} --groups all --spectrum --out spectra"),
            soft_wrap=True,
        )


def _claims(claims: list[Claim], title: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(title, overflow="fold", max_width=42)
    table.add_column("verdict", no_wrap=True)
    for name in ("value", "holds if", "95 % interval", "draws"):
        table.add_column(name, justify="right", no_wrap=name != "holds if")
    for claim in claims:
        colour = "dim" if claim.control else _COLOURS[claim.verdict]
        whole = claim.threshold.startswith("= ")  # made of parts, of which the value counts those that hold
        value = figure(claim.as_dict()["value"])
        table.add_row(
            # What a part or a control says follows from the claim above it.
            Text(claim.id) if "/" in claim.id else Text.assemble(claim.id, "\n", (claim.claim, "dim")),
            Text(claim.verdict.replace("_", " "), style=colour),
            f"{claim.value:.0f} part{'s' * (claim.value != 1)}"
            if whole and claim.value is not None
            else value,
            f"all {claim.threshold[2:]}" if whole else claim.threshold,
            NOTHING
            if claim.interval is None
            else f"{figure(claim.interval[0])} to {figure(claim.interval[1])}",
            str(claim.draws),
        )
    return table
