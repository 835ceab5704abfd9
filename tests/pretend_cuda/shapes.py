"""Shapes, strides and types of an operator's results, before it is carried out."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Meta(NamedTuple):
    """All of a tensor but its values."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype


_known: dict[Any, Meta | list[Meta]] = {}


def metas_of(func: Any, args: Any, kwargs: Any) -> Meta | list[Meta]:
    """Of the result, or of each result, from operands whose values may not be there yet."""
    key = (func, _key(args), _key(kwargs))
    if key not in _known:
        # Of ones, once for all operands alike: torch's rules for shapes alone import a compiler.
        found = func(*_ones(args), **_ones(kwargs))
        _known[key] = _meta(found) if isinstance(found, Tensor) else [_meta(one) for one in found]
    return _known[key]


def _meta(tensor: Tensor) -> Meta:
    return Meta(tuple(tensor.shape), tensor.stride(), tensor.dtype)


def _ones(values: Any) -> Any:
    if isinstance(values, Tensor):
        return torch.empty_strided(values.shape, values.stride(), dtype=values.dtype).fill_(1)
    if isinstance(values, (list, tuple)):
        return type(values)([_ones(one) for one in values])
    if isinstance(values, dict):
        return {name: _ones(one) for name, one in values.items()}
    return values


def _key(values: Any) -> Any:
    if isinstance(values, Tensor):
        return _meta(values)
    if isinstance(values, (list, tuple)):
        return tuple(_key(one) for one in values)
    if isinstance(values, dict):
        return tuple((name, _key(one)) for name, one in values.items())
    return type(values), values
