"""What models compute whose code is not in transformers, in torch, above all with their fused weights.

Written after the `modeling_*.py` files that lie beside the weights on the Hub, and Meta's and Mistral's own.
Rotary embeddings, norms and biases are left out: at position 0, where what attention receives is compared,
nothing turns.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.parity.models import FEED_FORWARD, HEAD_DIM, HEADS, HIDDEN, KV_HEADS, LAYERS, VOCABULARY

NARROW = HIDDEN // HEADS  # rows of a head where the code allows no other


def linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


class QwenAttention(nn.Module):
    """Splits what c_attn gives into three equal parts, then each into heads."""

    output = "c_proj"

    def __init__(self) -> None:
        super().__init__()
        self.c_attn, self.c_proj = linear(HIDDEN, 3 * HEADS * HEAD_DIM), linear(HEADS * HEAD_DIM, HIDDEN)

    def received(self, x: Tensor) -> list[Tensor]:
        return [part.unflatten(-1, (HEADS, HEAD_DIM)) for part in self.c_attn(x).split(HEADS * HEAD_DIM, -1)]


class QwenMLP(nn.Module):
    """The product of w1's features and w2's activated ones."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2, self.c_proj = (linear(*s) for s in (UP, UP, DOWN))

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.w1(x) * F.silu(self.w2(x)))


class InternLM2Attention(nn.Module):
    """Groups of features: the queries of one key and value head, the key, the value."""

    output = "wo"

    def __init__(self) -> None:
        super().__init__()
        self.wqkv = linear(HIDDEN, (HEADS + 2 * KV_HEADS) * NARROW)
        self.wo = linear(HEADS * NARROW, HIDDEN)

    def received(self, x: Tensor) -> list[Tensor]:
        queries = HEADS // KV_HEADS
        grouped = self.wqkv(x).unflatten(-1, (KV_HEADS, queries + 2, NARROW))
        return [grouped[..., :queries, :].flatten(-3, -2), grouped[..., -2, :], grouped[..., -1, :]]


class W123(nn.Module):
    """Meta's feed-forward part, and InternLM2's: w1 is activated."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2, self.w3 = (linear(*s) for s in (UP, DOWN, UP))

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class BaichuanAttention(nn.Module):
    """Three times the model's width."""

    output = "o_proj"

    def __init__(self) -> None:
        super().__init__()
        self.W_pack, self.o_proj = linear(HIDDEN, 3 * HIDDEN), linear(HIDDEN, HIDDEN)

    def received(self, x: Tensor) -> list[Tensor]:
        thirds = self.W_pack(x).unflatten(-1, (3, HIDDEN)).unbind(-2)
        return [part.unflatten(-1, (HEADS, NARROW)) for part in thirds]


class LlamaMLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = (linear(*s) for s in (UP, UP, DOWN))

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class ChatGLMAttention(nn.Module):
    """Heads first, then each head's features in three."""

    output = "dense"

    def __init__(self) -> None:
        super().__init__()
        self.query_key_value, self.dense = linear(HIDDEN, 3 * HIDDEN), linear(HIDDEN, HIDDEN)

    def received(self, x: Tensor) -> list[Tensor]:
        by_head = self.query_key_value(x).unflatten(-1, (HEADS, 3 * NARROW))
        return list(by_head.split(NARROW, -1))


class ChatGLMMLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense_h_to_4h, self.dense_4h_to_h = linear(*UP), linear(*DOWN)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense_4h_to_h(F.gelu(self.dense_h_to_4h(x), approximate="tanh"))


class ChatGLM2Attention(nn.Module):
    """All queries, then the keys of the groups, then their values."""

    output = "dense"

    def __init__(self) -> None:
        super().__init__()
        self.query_key_value = linear(HIDDEN, (HEADS + 2 * KV_HEADS) * HEAD_DIM)
        self.dense = linear(HEADS * HEAD_DIM, HIDDEN)

    def received(self, x: Tensor) -> list[Tensor]:
        heights = [count * HEAD_DIM for count in (HEADS, KV_HEADS, KV_HEADS)]
        return [part.unflatten(-1, (-1, HEAD_DIM)) for part in self.query_key_value(x).split(heights, -1)]


class ChatGLM2MLP(nn.Module):
    """The first half of the features is activated."""

    def __init__(self) -> None:
        super().__init__()
        self.dense_h_to_4h, self.dense_4h_to_h = linear(HIDDEN, 2 * FEED_FORWARD), linear(*DOWN)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.dense_h_to_4h(x).chunk(2, -1)
        return self.dense_4h_to_h(F.silu(first) * second)


class MetaAttention(nn.Module):
    output = "wo"

    def __init__(self) -> None:
        super().__init__()
        self.wq, self.wo = linear(HIDDEN, HEADS * HEAD_DIM), linear(HEADS * HEAD_DIM, HIDDEN)
        self.wk, self.wv = (linear(HIDDEN, KV_HEADS * HEAD_DIM) for _ in range(2))

    def received(self, x: Tensor) -> list[Tensor]:
        return [w(x).unflatten(-1, (-1, HEAD_DIM)) for w in (self.wq, self.wk, self.wv)]


UP, DOWN = (HIDDEN, FEED_FORWARD), (FEED_FORWARD, HIDDEN)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A model's code, and where its tensors are."""

    config: Mapping[str, object]
    layers: str
    """Before the layer's number, with the prefix of a model with a head."""
    attention: tuple[str, type[nn.Module]]
    mlp: tuple[str, type[nn.Module]]
    embedding: str
    unembedding: str
    prefix: str = ""
    """What a bare model does without."""
    kv_heads: int = HEADS
    head_dim: int = NARROW

    def layer(self, number: int) -> tuple[nn.Module, nn.Module]:
        """Attention and feed-forward part of a layer, with weights of scales of their own."""
        torch.manual_seed(number)
        modules = self.attention[1](), self.mlp[1]()
        with torch.no_grad():
            for position, weight in enumerate(p for module in modules for p in module.parameters()):
                weight.copy_(torch.randn(weight.shape) * 1.7 ** (position - 3 + number))
        return modules

    def tensors(self) -> dict[str, Tensor]:
        """The whole checkpoint."""
        found = {f"{self.embedding}.weight": torch.randn(VOCABULARY, HIDDEN)}
        for number in range(LAYERS):
            for (path, _), module in zip((self.attention, self.mlp), self.layer(number), strict=True):
                for name, weight in module.state_dict().items():
                    found[f"{self.layers}.{number}.{path}.{name}"] = weight
        return {**found, f"{self.unembedding}.weight": torch.randn(VOCABULARY, HIDDEN)}


_SIZES = {
    "hidden_size": HIDDEN,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "intermediate_size": FEED_FORWARD,
    "vocab_size": VOCABULARY,
}
_GLM_SIZES = {"hidden_size": HIDDEN, "num_attention_heads": HEADS, "num_layers": LAYERS}
REFERENCES: dict[str, Reference] = {
    "qwen": Reference(
        config={
            **_SIZES,
            "model_type": "qwen",
            "kv_channels": HEAD_DIM,
            "intermediate_size": 2 * FEED_FORWARD,
        },
        prefix="transformer.",
        layers="transformer.h",
        attention=("attn", QwenAttention),
        mlp=("mlp", QwenMLP),
        embedding="transformer.wte",
        unembedding="lm_head",
        head_dim=HEAD_DIM,
    ),
    "internlm2": Reference(
        config={**_SIZES, "model_type": "internlm2", "num_key_value_heads": KV_HEADS},
        prefix="model.",
        layers="model.layers",
        attention=("attention", InternLM2Attention),
        mlp=("feed_forward", W123),
        embedding="model.tok_embeddings",
        unembedding="output",
        kv_heads=KV_HEADS,
    ),
    "baichuan": Reference(
        config={**_SIZES, "model_type": "baichuan"},
        prefix="model.",
        layers="model.layers",
        attention=("self_attn", BaichuanAttention),
        mlp=("mlp", LlamaMLP),
        embedding="model.embed_tokens",
        unembedding="lm_head",
    ),
    "chatglm": Reference(
        config={
            **_GLM_SIZES,
            "model_type": "chatglm",
            "inner_hidden_size": FEED_FORWARD,
            "vocab_size": VOCABULARY,
        },
        prefix="transformer.",
        layers="transformer.layers",
        attention=("attention", ChatGLMAttention),
        mlp=("mlp", ChatGLMMLP),
        embedding="transformer.word_embeddings",
        unembedding="lm_head",
    ),
    "chatglm2": Reference(
        config={
            **_GLM_SIZES,
            "model_type": "chatglm",
            "multi_query_attention": True,
            "multi_query_group_num": KV_HEADS,
            "kv_channels": HEAD_DIM,
            "ffn_hidden_size": FEED_FORWARD,
            "padded_vocab_size": VOCABULARY,
        },
        prefix="transformer.",
        layers="transformer.encoder.layers",
        attention=("self_attention", ChatGLM2Attention),
        mlp=("mlp", ChatGLM2MLP),
        embedding="transformer.embedding.word_embeddings",
        unembedding="transformer.output_layer",
        kv_heads=KV_HEADS,
        head_dim=HEAD_DIM,
    ),
    "consolidated": Reference(
        config={
            "dim": HIDDEN,
            "n_layers": LAYERS,
            "head_dim": HEAD_DIM,
            "hidden_dim": FEED_FORWARD,
            "n_heads": HEADS,
            "n_kv_heads": KV_HEADS,
            "vocab_size": VOCABULARY,
        },
        layers="layers",
        attention=("attention", MetaAttention),
        mlp=("feed_forward", W123),
        embedding="tok_embeddings",
        unembedding="output",
        kv_heads=KV_HEADS,
        head_dim=HEAD_DIM,
    ),
}
"""The families by the names they have here."""
