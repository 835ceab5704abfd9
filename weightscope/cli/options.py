"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="'demo', org/name on the Hub, a folder, a .safetensors file or a .safetensors.index.json.",
        show_default=False,
    ),
]
FamilyOption = Annotated[
    str | None,
    typer.Option(
        "--family",
        metavar="NAME|FILE",
        help="Take the names for this family's ('weightscope families' lists them), or for what a YAML file "
        "describes; found by itself if left out.",
        show_default=False,
    ),
]
RevisionOption = Annotated[
    str | None,
    typer.Option(
        "--revision",
        metavar="REV",
        help="Branch, tag or commit on the Hub; the default branch if left out.",
        show_default=False,
    ),
]
SubfolderOption = Annotated[
    str | None,
    typer.Option("--subfolder", metavar="DIR", help="Folder inside the repository.", show_default=False),
]
CacheOption = Annotated[
    bool,
    typer.Option(
        "--cache/--stream",
        help="Download whole files to the Hub's cache first, or read only the parts that are needed.",
    ),
]
ConnectionsOption = Annotated[
    int, typer.Option("--connections", metavar="N", help="Connections to the Hub at once.")
]
VerifyOption = Annotated[
    bool, typer.Option("--verify", help="Compare each file's SHA-256 with the Hub's first; not for --stream.")
]
AllowPickleOption = Annotated[
    bool,
    typer.Option("--allow-pickle", help="Also read .bin and .pt files, tensors only (weights_only=True)."),
]
PartialOption = Annotated[
    bool,
    typer.Option(
        "--partial",
        help="Accept a checkpoint that lacks layers, or has other sizes than config.json states.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Write tables, plots and provenance here.", show_default=False),
]
