"""From the C files to a shared library.

OpenMP's functions are left unresolved on purpose: torch's own runtime has them, and is loaded first, so that
there is one set of threads and not two that wait for each other.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
LIBRARY = HERE / "_kernels.so"
# No -march: the functions come in several versions, and the right one is chosen when they are loaded.
_FLAGS = ["-O3", "-fno-math-errno", "-Wall", "-Wno-psabi", "-fPIC", "-fopenmp"]


def digest() -> str:
    """Of the C files and what they include: a library that carries another one was built from other files."""
    found = sha256()
    for file in sorted([*HERE.glob("*.c"), *HERE.glob("*.h")]):
        found.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return found.hexdigest()[:16]


def compile_kernels(target: Path, flags: Sequence[str] = ()) -> None:
    """Compile the C files to a shared library; there is none if that fails.

    Args:
        target: The library.
        flags: For the compiler, which is $CC or `cc`, beside our own.

    Raises:
        OSError: There is no compiler, or this is not Linux.
        subprocess.CalledProcessError: It failed.
    """
    target.unlink(missing_ok=True)
    if sys.platform != "linux":
        raise OSError("not on Linux")
    compiler = _compiler()
    known = f'-DWEIGHTSCOPE_SOURCES="{digest()}"'
    with TemporaryDirectory() as scratch:
        files = sorted(HERE.glob("*.c"))
        objects = [str(Path(scratch) / f"{file.stem}.o") for file in files]
        for file, made in zip(files, objects, strict=True):
            _run([*compiler, *_FLAGS, *flags, known, "-c", str(file), "-o", made])
        library = Path(scratch) / target.name
        _run([*compiler, "-shared", "-o", str(library), *objects, "-lm"])  # no -fopenmp: see above
        target.write_bytes(library.read_bytes())


def _compiler() -> list[str]:
    named = os.environ.get("CC") or "cc"
    try:
        return shlex.split(named)
    except ValueError as error:
        raise OSError(f"CC is {named!r}: {error}") from error


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)
