"""float32 products as a GPU forms them: in TF32 where the process' settings allow it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tests.pretend_cuda.operators import Operator

# Which arguments are the factors. Matrix-vector products have no TF32.
_FACTORS = {
    "mm": (0, 1),
    "bmm": (0, 1),
    "addmm": (1, 2),
    "baddbmm": (1, 2),
    "addmm_": (1, 2),
    "baddbmm_": (1, 2),
}
_DROPPED_BITS = 13  # of the 23 of float32's mantissa


def with_tf32(func: Any, operator: Operator, args: Any, kwargs: Any) -> Callable[[], Any]:
    """The operator to carry out later, with what the settings say now, as a launch would take it."""
    factors = _FACTORS.get(operator.name, ())
    if not factors or args[factors[0]].dtype != torch.float32 or not allowed():
        return partial(func, *args, **kwargs)

    def run() -> Any:
        rounded = [_rounded(one) if i in factors else one for i, one in enumerate(args)]
        return func(*rounded, **kwargs)

    return run


def allowed() -> bool:
    """Whether the process allows TF32."""
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):
        return str(matmul.fp32_precision) == "tf32"
    return bool(matmul.allow_tf32)


def _rounded(values: Tensor) -> Tensor:
    bits = values.contiguous().view(torch.int32)
    half = 1 << (_DROPPED_BITS - 1)
    return ((bits + half) & -(1 << _DROPPED_BITS)).view(torch.float32)
