"""The names of torch's own modules: what they hold is known, wherever in a model they stand.

`nn.MultiheadAttention` is recognised by `in_proj_weight`, or by `q_proj_weight` where keys and values have
widths of their own, and `nn.TransformerEncoderLayer` and `nn.TransformerDecoderLayer` by what lies beside it.
Recurrent modules' weights (`weight_ih_l0`) have no role here, and of a convolution's name only `weight` is
certain.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from weightscope.checkpoints.header import TensorIndex, TensorInfo
from weightscope.families.spec import Group

_CROSS = re.compile(r"EncDecAttention|encoder_attn|cross_?attn|cross_?attention", re.IGNORECASE)
# weight_norm of torch.nn.utils and of torch.nn.utils.parametrizations.
_NORMALISED = (("weight_g", "weight_v"), ("weight.original0", "weight.original1"))
_ATTENTION = re.compile(r"(?:(.*)\.)?(?:in_proj_weight|q_proj_weight)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What a tensor of one of torch's modules is."""

    group: Group
    """Its group."""
    attention_kind: Literal["self", "cross"] = "self"
    """`self` or `cross`."""
    layout: str | None = None
    """How it splits, where it is fused."""
    stack: str = ""
    """That of the module's class; empty where the class does not tell."""


def torch_roles(index: TensorIndex) -> dict[str, Role]:
    """The tensors of torch's attention and transformer layers, by name."""
    found: dict[str, Role] = {}
    for name in index:
        if match := _ATTENTION.fullmatch(name):
            found |= _attention(index, match[1])
    return found


def _attention(index: TensorIndex, module: str | None) -> Iterator[tuple[str, Role]]:
    """What an `nn.MultiheadAttention` holds, and the feed-forward part of the layer that it is in."""
    parent, _, leaf = (module or "").rpartition(".")
    # A decoder layer's second attention has this name; a model's only attention may have it too.
    second = leaf == "multihead_attn" and _has(index, parent, "self_attn.in_proj_weight")
    crossing = second or _CROSS.search(module or "") or _reads_two_widths(index, module)
    kind: Literal["self", "cross"] = "cross" if crossing else "self"
    stack = ""
    in_layer = leaf == "self_attn" or second
    if in_layer and _has(index, parent, "linear1.weight") and _has(index, parent, "linear2.weight"):
        stack = "decoder" if _has(index, parent, "multihead_attn.in_proj_weight") else "encoder"
        yield _joined(parent, "linear1.weight"), Role(group=Group.M1, stack=stack)
        yield _joined(parent, "linear2.weight"), Role(group=Group.M2, stack=stack)
    for end, group in (
        ("in_proj_weight", Group.QKV),
        ("q_proj_weight", Group.Q),
        ("k_proj_weight", Group.K),
        ("v_proj_weight", Group.V),
        ("out_proj.weight", Group.O),
    ):
        name = _joined(module, end)
        if name not in index or len(index[name].shape) != 2:
            continue
        rows, columns = index[name].shape
        layout = "contiguous_thirds" if group == Group.QKV and rows == 3 * columns else None
        yield name, Role(group=group, attention_kind=kind, layout=layout, stack=stack)


def why_no_matrix(index: TensorIndex, info: TensorInfo) -> str:
    """Why a tensor of two dimensions or more is a vector after all; empty if it is none.

    `bias_k` and `bias_v` of an `nn.MultiheadAttention` are (1, 1, width). A normalised weight has its
    magnitudes, of as many dimensions, beside its direction.
    """
    if re.search(r"(?:^|\.)bias_[kv]$", info.name) and info.shape[:-1] == (1, 1):
        return "a vector kept in three dimensions"
    for magnitudes, direction in _NORMALISED:
        beside = f"{info.name.removesuffix(magnitudes)}{direction}"
        if info.name.endswith(magnitudes) and beside in index and info.elements == max(info.shape):
            return f"magnitudes of {beside}"
    return ""


def is_convolution(index: TensorIndex, info: TensorInfo) -> bool:
    """Whether a tensor of three dimensions or more is guessed to be the weight of a convolution.

    Experts are stacked in three dimensions too, a bilinear form has three, and a normalisation over several
    dimensions has a bias of as many.
    """
    name = info.name.lower()
    if len(info.shape) > 3:
        return True
    if re.search(r"expert|moe|bilinear", name):
        return False
    module = re.fullmatch(r"(.*\.)?(?:parametrizations\.weight\.original1|weight(?:_v)?)", info.name)
    bias = index.get(f"{module[1] or ''}bias") if module else None
    return "conv" in name or (module is not None and (bias is None or len(bias.shape) == 1))


def _reads_two_widths(index: TensorIndex, module: str | None) -> bool:
    query, key = (index.get(_joined(module, f"{name}_proj_weight")) for name in "qk")
    return query is not None and key is not None and query.shape[1:] != key.shape[1:]


def _has(index: TensorIndex, module: str, name: str) -> bool:
    return _joined(module, name) in index


def _joined(module: str | None, name: str) -> str:
    return f"{module}.{name}" if module else name
