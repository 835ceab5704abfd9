"""Tiny random models of each family, by transformers itself, and where their weights are.

Sizes are deliberately unequal (hidden 24, six query heads of ten rows where the family allows it and two of
keys and values, feed-forward 37, three layers), and every weight has a scale and a rank of its own, so that a
swap of two of them cannot pass.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

import torch
import transformers as hf

from tests.parity import probe
from tests.parity.towers import TowerCase

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FEED_FORWARD, LAYERS, VOCABULARY = 24, 6, 2, 10, 37, 3, 31
COMMON = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
SIZES = {
    **COMMON,
    "hidden_size": HIDDEN,
    "num_attention_heads": HEADS,
    "intermediate_size": FEED_FORWARD,
    "num_hidden_layers": LAYERS,
    "max_position_embeddings": 20,
}
GROUPED = {**SIZES, "num_key_value_heads": KV_HEADS}
WIDE_HEADS = {**GROUPED, "head_dim": HEAD_DIM}

Weights = dict[str, torch.Tensor]
Expected = list[tuple[dict[str, object], torch.Tensor]]


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where a model class keeps its weights. A fused weight is judged by what the model does with it."""

    layers: str
    """From the base model to its layers."""
    linears: Mapping[str, str]
    """Group to the module inside a layer."""
    qkv: str = ""
    """The fused module, if Q, K and V are fused."""
    mlp: tuple[str, str] = ("", "")
    """The feed-forward module and its activation, if it is gated."""
    transposed: bool = False
    """Whether modules keep (in_features, out_features)."""

    def weights(self, model: hf.PreTrainedModel, layer: int) -> Weights:
        """Group to weight, (out_features, in_features)."""
        block = attrgetter(self.layers)(model.base_model)[layer]
        found = {group: attrgetter(path)(block).weight for group, path in self.linears.items()}
        if self.transposed:
            found = {group: weight.T for group, weight in found.items()}
        if self.qkv:
            fused, output = (attrgetter(path)(block) for path in (self.qkv, self.linears["O"]))
            found |= probe.attention_receives(model, fused, output, HIDDEN)
        if self.mlp[0]:
            mlp, down = (attrgetter(path)(block) for path in (self.mlp[0], self.linears["M2"]))
            found |= probe.gate_and_up(mlp, attrgetter(self.mlp[1])(mlp), down, HIDDEN)
        return found


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model class of a family."""

    name: str
    family: str
    build: Callable[[], hf.PreTrainedModel]
    paths: Paths
    others: tuple[str, ...] = ()
    """Ends of the names that are in no group."""
    heads: int = HEADS
    """For fused weights, the heads of Q."""
    kv_heads: int = HEADS
    """For fused weights, the heads of K and V."""
    query_scale: float = 1
    """What a model divides its queries by before it multiplies them."""

    def weights(self, model: hf.PreTrainedModel, layer: int) -> Weights:
        """Group to weight, (out_features, in_features); of K and V no copies for grouped queries."""
        weights = self.paths.weights(model, layer)
        if self.paths.qkv:
            head_dim = len(weights["Q"]) // self.heads
            weights |= {
                group: probe.without_copies(weights[group], self.kv_heads, head_dim) for group in "KV"
            }
            weights["Q"] = weights["Q"] * self.query_scale
        return weights

    def expected(self, model: hf.PreTrainedModel) -> Expected:
        """Every matrix of every layer, by what finds it."""
        found: Expected = []
        for layer in range(LAYERS):
            weights = self.weights(model, layer)
            assert weights.keys() >= {"Q", "K", "V", "O", "M1", "M2"}
            weights["QKV"] = torch.cat([weights["Q"], weights["K"], weights["V"]])
            found += [({"layer": layer, "group": group}, weight) for group, weight in weights.items()]
        return found


def build(case: Case | TowerCase, seed: int = 0) -> hf.PreTrainedModel:
    """The model with every weight drawn anew at a scale and a rank of its own, and without biases."""
    torch.manual_seed(seed)
    model = case.build().eval()
    with torch.no_grad():
        for position, (name, weight) in enumerate(model.named_parameters()):
            if weight.dim() >= 2:
                *_, rows, columns = weight.shape
                rank = 1 + (5 + 3 * position) % min(rows, columns)
                factors = (
                    torch.randn(*weight.shape[:-1], rank),
                    torch.randn(*weight.shape[:-2], rank, columns),
                )
                weight.copy_(factors[0] @ factors[1] * 1.7 ** (position % 23 - 9))
            elif name.endswith("bias"):
                weight.zero_()
    return model


def cases(
    family: str,
    stem: str,
    paths: Paths,
    sizes: Mapping[str, object],
    *,
    head: str = "ForCausalLM",
    bare: str = "Model",
    config: str = "Config",
    variant: str = "",
    others: tuple[str, ...] = (),
    kv_heads: int = HEADS,
    query_scale: float = 1,
) -> list[Case]:
    """A family with a head and without, by the names of transformers' classes after their common stem."""

    def made(ending: str) -> hf.PreTrainedModel:
        settings = getattr(hf, stem + config)(**sizes)
        return getattr(hf, stem + ending)._from_config(settings, attn_implementation="eager")

    return [
        Case(
            name=f"{family}{variant}_{kind}",
            family=family,
            build=partial(made, ending),
            paths=paths,
            others=others,
            heads=int(sizes.get("n_head", HEADS)),
            kv_heads=kv_heads,
            query_scale=query_scale,
        )
        for kind, ending in (("with_head", head), ("bare", bare))
    ]
