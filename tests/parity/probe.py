"""What a model does with its fused weights, found by running it on basis vectors.

No layout is read here: Q, K and V are what attention multiplies, G what goes through the activation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_PRODUCTS = {
    torch.matmul,
    torch.bmm,
    torch.baddbmm,
    Tensor.matmul,
    Tensor.__matmul__,
    Tensor.bmm,
    Tensor.baddbmm,
}


class _Products(TorchFunctionMode):
    """Keeps the factors of every product of activations while it is listening."""

    def __init__(self) -> None:
        super().__init__()
        self.listening = False
        self.factors: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if self.listening and func in _PRODUCTS:
            factors = [value for value in (*args, *(kwargs or {}).values()) if isinstance(value, Tensor)]
            self.factors.append((factors[-2], factors[-1]))
        return func(*args, **(kwargs or {}))


@contextmanager
def hooks(*handles: torch.utils.hooks.RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def attention_receives(
    model: nn.Module, fused: nn.Module, output: nn.Module, hidden: int
) -> dict[str, Tensor]:
    """Q, K and V of one attention: what it multiplies if basis vectors come in.

    One token a sequence, at position 0, where rotary embeddings turn nothing.

    Args:
        model: The whole model, without biases.
        fused: The module with the fused weight.
        output: The attention's output projection, after whose call nothing is attention any more.
        hidden: Width of the input.
    """
    products = _Products()

    def basis(module, args):
        return (torch.eye(hidden).unsqueeze(1),)

    def start(module, args, result):
        products.listening = True

    def stop(module, args):
        products.listening = False

    handles = (
        fused.register_forward_pre_hook(basis),
        fused.register_forward_hook(start),
        output.register_forward_pre_hook(stop),
    )
    with hooks(*handles), products:
        model(torch.arange(1, hidden + 1)[:, None])
    (query, key), (_, value) = products.factors[0], products.factors[-1]
    return {
        group: factor.reshape(hidden, -1).T for group, factor in zip("QKV", (query, key, value), strict=True)
    }


@torch.no_grad()
def alone_receives(attention: nn.Module, fused: nn.Module) -> dict[str, Tensor]:
    """Q, K and V of an attention of images that is called alone, every token a basis vector.

    Args:
        attention: The module. If it turns queries and keys by their places, these turn nothing.
        fused: The module in it with the fused weight, without biases.
    """
    width = fused.in_features
    products = _Products()
    products.listening = True
    if (
        "cu_seqlens" in signature(attention.forward).parameters
    ):  # all images one after another, without a batch
        still = torch.ones(width, attention.head_dim), torch.zeros(width, attention.head_dim)
        with products:
            attention(torch.eye(width), cu_seqlens=torch.tensor([0, width]), position_embeddings=still)
    else:
        with products:
            attention(torch.eye(width)[None])
    (query, key), (_, value) = products.factors[0], products.factors[-1]
    factors = {"Q": query, "K": key.mT, "V": value}  # each (1, heads, tokens, rows of a head)
    return {group: factor[0].transpose(0, 1).flatten(1).T for group, factor in factors.items()}


def without_copies(weight: Tensor, kv_heads: int, head_dim: int) -> Tensor:
    """Keys or values of `kv_heads` heads, of which grouped queries may have made one copy a query head."""
    by_head = weight.unflatten(0, (kv_heads, -1, head_dim))
    assert torch.equal(by_head[:, :1].expand_as(by_head), by_head)
    return by_head[:, 0].flatten(0, 1)


@torch.no_grad()
def gate_and_up(mlp: nn.Module, activation: nn.Module, down: nn.Module, hidden: int) -> dict[str, Tensor]:
    """G, which goes through the activation, and M1, which is multiplied with what comes out of it."""
    found: dict[str, Tensor] = {}

    def activated(module, args, result):
        found["G"] = args[0].T
        return torch.ones_like(result)

    def multiplied(module, args):
        found["M1"] = args[0].T

    with hooks(activation.register_forward_hook(activated), down.register_forward_pre_hook(multiplied)):
        mlp(torch.eye(hidden))
    return found
