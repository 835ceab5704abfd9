"""The compiled library, where it was built and this machine can load it."""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from weightscope.kernels.compiling import LIBRARY, digest

# Set to 0 to do without, as where it could not be built.
SWITCH = "WEIGHTSCOPE_KERNELS"
_LONG, _INT, _POINTER = ctypes.c_long, ctypes.c_int, ctypes.c_void_p
_FUNCTIONS: dict[str, tuple[type[Any] | None, list[type[Any]]]] = {
    "gram_product_room": (_LONG, [_LONG, _LONG, _INT, _INT]),
    "gram_product": (None, [_INT, _POINTER, _LONG, _LONG, _LONG, _INT, *[_POINTER] * 3, _INT]),
    "symmetric_product_room": (_LONG, [_LONG, _INT]),
    "symmetric_product": (None, [_POINTER, _LONG, *[_POINTER] * 3, _INT]),
    "sums_room": (_LONG, [_LONG, _INT]),
    "sums": (None, [_INT, _POINTER, _LONG, _LONG, _LONG, *[_POINTER] * 7, _INT]),
    "orthogonalise_room": (_LONG, [_LONG]),
    "orthogonalise": (ctypes.c_double, [_POINTER, _LONG, _LONG, *[_POINTER] * 3]),
    "has_matrix_units": (_INT, []),
    "gram_room": (_LONG, [_LONG]),
    "gram": (None, [_POINTER, _LONG, _LONG, _LONG, _INT, _INT, _POINTER, _POINTER, _INT]),
    "largest_eigenvalue": (ctypes.c_double, [_POINTER, _POINTER, _LONG]),
    "largest": (ctypes.c_float, [_INT, _POINTER, _LONG, _LONG, _LONG, _INT]),
}


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The library with its functions' signatures set; None where there is none.

    Its functions let other threads of Python run.
    """
    return None if os.environ.get(SWITCH) == "0" else load(LIBRARY)


def identity() -> str:
    """What the library was built from, empty where there is none: other sums, other last digits."""
    return digest() if library() else ""


def load(path: Path) -> ctypes.CDLL | None:
    """A library with its functions' signatures set; None if it is not there, or not of this machine."""
    if not path.exists():
        return None
    import torch  # noqa: F401 - its OpenMP runtime has what the library leaves unresolved

    try:
        found = ctypes.CDLL(str(path))
    except OSError:  # of another kind of machine, or torch came with another runtime
        return None
    found.weightscope_sources.restype = ctypes.c_char_p
    if found.weightscope_sources().decode() != digest():
        return None  # a checkout that went on since it was installed
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(found, f"weightscope_{name}")  # an index would make a new one each time
        function.restype, function.argtypes = result, arguments
    return found
