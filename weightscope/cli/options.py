"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

SourceArgument = Annotated[
    str,
    typer.Argument(
        help="'demo', a folder, a .safetensors file or a .safetensors.index.json.", show_default=False
    ),
]
FamilyOption = Annotated[
    str | None,
    typer.Option(
        "--family",
        metavar="NAME|FILE",
        help="Use this family, or the one a YAML file describes.",
        show_default=False,
    ),
]
AllowPickleOption = Annotated[
    bool,
    typer.Option("--allow-pickle", help="Also read .bin and .pt files, tensors only (weights_only=True)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Write tables, plots and provenance here.", show_default=False),
]
