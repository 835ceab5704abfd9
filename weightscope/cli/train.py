"""`weightscope train lambda` and `weightscope train merge`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from weightscope.errors import OptionError

if TYPE_CHECKING:
    from weightscope.recipes.load import LoadedRecipe

LAMBDA_EXAMPLES = """
Examples:

  weightscope train lambda

  weightscope train lambda --size paper --out figure2

  weightscope train lambda --set width=20 --set step_size=0.5
"""
MERGE_EXAMPLES = """
Examples:

  weightscope train merge

  weightscope train merge --data digits --out digits

  weightscope train merge --data fashion_mnist --data-dir ./data --set samples=1000

  weightscope train merge --merge average
"""

train = typer.Typer(
    help="Reproduce paper A's experiments with small networks, and judge its claims.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

SizeOption = Annotated[
    str,
    typer.Option(metavar="smoke|quick|paper", help="How large: seconds, minutes, or the paper's numbers."),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Write the results here; else a folder named like the run.",
        show_default=False,
    ),
]
SeedOption = Annotated[int, typer.Option(help="Of the draws: means the same on every device.")]
DeviceOption = Annotated[str, typer.Option(metavar="auto|cpu|cuda|cuda:1", help="Where to train.")]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on with an interrupted run of the same --out DIR.")
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a number of the experiment, its value as YAML; may be repeated.",
        show_default=False,
    ),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Exit 3 if a claim is not held.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]


@train.command("lambda", epilog=LAMBDA_EXAMPLES)
def train_lambda(
    size: SizeOption = "quick",
    out: OutOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    resume: ResumeOption = False,
    settings: SettingsOption = None,
    strict: StrictOption = False,
    quiet: QuietOption = False,
) -> None:
    """Figure 2: stable ranks of small networks against the weight decay λ."""
    from weightscope.recipes.load import load_recipe

    loaded = load_recipe("paper_a/figure2", _settings(size, seed, device, settings))
    train_into(loaded, out or _folder("lambda", size), resume=resume, strict=strict, quiet=quiet)


@train.command("merge", epilog=MERGE_EXAMPLES)
def train_merge(
    data: Annotated[
        str,
        typer.Option(
            metavar="synthetic|digits|mnist|fashion_mnist|cifar10|DIR",
            help="Figure 3 is synthetic, Figure 5 fashion_mnist; digits needs no network.",
        ),
    ] = "synthetic",
    size: SizeOption = "quick",
    out: OutOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    resume: ResumeOption = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="Folder of the images; the Hub or its cache if left out.",
            show_default=False,
        ),
    ] = None,
    merge: Annotated[
        str, typer.Option(metavar="sum|average", help="How weights are merged; the paper adds them.")
    ] = "sum",
    settings: SettingsOption = None,
    strict: StrictOption = False,
    quiet: QuietOption = False,
) -> None:
    """Figures 3 and 5: networks of different tasks can be merged by adding their weights."""
    from weightscope.recipes.load import load_recipe

    if data_dir is not None and data in ("synthetic", "digits"):
        raise OptionError(
            f"The data {data!r} were asked for, from '{data_dir}'.",
            "They need no folder.",
            "Leave out --data-dir, or choose --data mnist, fashion_mnist, cifar10 or a folder.",
        )
    more = [f"data={_text(data)}", f"merge={_text(merge)}"]
    if data_dir is not None:
        more.append(f"data_dir={_text(str(data_dir))}")
    recipe = "paper_a/figure3" if data == "synthetic" else "paper_a/figure5"
    loaded = load_recipe(recipe, [*more, *_settings(size, seed, device, settings)])
    folder = out or _folder(f"merge-{Path(data).name or 'images'}", size)
    train_into(loaded, folder, resume=resume, strict=strict, quiet=quiet)


def _folder(name: str, size: str) -> Path:
    """Each size has its own: seconds of a small one shall not replace hours of a large one."""
    return Path(name if size == "quick" else f"{name}-{size}")


def _settings(size: str, seed: int, device: str, settings: list[str] | None) -> list[str]:
    """As `--set` has them.

    Raises:
        OptionError: One of them has an option of its own, which it would contradict in silence.
    """
    for setting in settings or []:
        key, _, value = setting.partition("=")
        if key.strip().removeprefix("setting.") in ("size", "seed", "device", "data", "data_dir", "merge"):
            raise OptionError(
                f"The setting '--set {setting}' was given.",
                "That is an option of its own.",
                f"Write --{key.strip().removeprefix('setting.').replace('_', '-')} {value.strip()}.",
            )
    return [
        f"size={_text(size)}",
        f"seed={seed}",
        f"device={_text(device)}",
        *(settings or []),
    ]


def _text(value: str) -> str:
    """As YAML: in quotes unless it is a word, which `null` and `no` are not."""
    from weightscope.recipes.document import parse_value

    plain = value.isidentifier() and parse_value(value) == value
    return value if plain else json.dumps(value, ensure_ascii=False)


def train_into(loaded: LoadedRecipe, folder: Path, *, resume: bool, strict: bool, quiet: bool) -> None:
    """Run a recipe that trains and print its claims.

    Raises:
        Exit: 130 after Ctrl-C, 3 if `strict` and a claim is not held.
    """
    from weightscope.cli import render_training
    from weightscope.cli.terminal import Terminal
    from weightscope.recipes.run import train_recipe

    render_training.beginning(loaded)
    try:
        outcome = train_recipe(loaded, folder, Terminal(quiet=quiet), resume=resume)
    except KeyboardInterrupt:
        state = folder / "training.state"
        found = f"The same command with --resume goes on from '{state}'."
        typer.echo(f"Interrupted. {found if state.exists() else 'Nothing was saved yet.'}", err=True)
        raise typer.Exit(130) from None
    render_training.outcome(loaded, folder, outcome)
    if strict and any(claim.verdict != "held" for claim in outcome.claims if not claim.control):
        raise typer.Exit(3)
