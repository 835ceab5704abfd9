"""How torch multiplies float32, set around our own products and put back as it was found.

The settings are the process': a user may have allowed TF32 or bfloat16 for their model, and then even a
matrix-vector product is off in the third digit. Nothing we report may depend on that.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch


@contextmanager
def float32_products(kind: Literal["exact", "bfloat16"]) -> Iterator[None]:
    """Inside, float32 matrices are multiplied as float32, or rounded to bfloat16 and summed in float32.

    Args:
        kind: `bfloat16` is exact where every value is one of bfloat16, and uses a CPU's matrix units; on a
            GPU it means `exact`.
    """
    # torch 2.9 has a setting for each backend; reading the older, common one fails after they were used.
    holders = [
        backend.matmul
        for backend in (torch.backends.mkldnn, torch.backends.cuda)
        if hasattr(getattr(backend, "matmul", None), "fp32_precision")
    ]
    if not holders:
        common = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium" if kind == "bfloat16" else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(common)
        return
    before = [_own_setting(holder) for holder in holders]
    try:
        for holder in holders:
            on_cpu = holder is holders[0]
            holder.fp32_precision = "bf16" if kind == "bfloat16" and on_cpu else "ieee"
        yield
    finally:
        for holder, precision in zip(holders, before, strict=True):
            holder.fp32_precision = precision


def _own_setting(holder: Any) -> str:
    """What is set for this backend itself; `none` where it follows the setting for all, and shows that one's.

    Written back as shown, a setting that follows would stay behind when the one for all is next changed.
    """
    everywhere: Any = torch.backends
    shown, general = str(holder.fp32_precision), everywhere.fp32_precision
    if shown == "none" or shown != general:
        return shown
    everywhere.fp32_precision = "tf32" if general == "ieee" else "ieee"
    try:
        return shown if holder.fp32_precision == shown else "none"
    finally:
        everywhere.fp32_precision = general
