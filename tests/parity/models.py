"""Tiny random models of each family, by transformers itself, and where their weights are.

Sizes are deliberately unequal (hidden 24, heads 3 of 8, feed-forward 40, three layers), and every weight
has a scale of its own, so that a swap of two of them cannot pass.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import transformers as hf

HIDDEN, HEADS, FEED_FORWARD, LAYERS, VOCABULARY = 24, 3, 40, 3, 31
Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Case:
    """A model class of a family."""

    name: str
    family: str
    build: Callable[[], hf.PreTrainedModel]
    # (model, layer) -> group to weight in (out_features, in_features) orientation
    weights: Callable[[hf.PreTrainedModel, int], Weights]


def _bert_config(kind: type) -> hf.PretrainedConfig:
    return kind(
        hidden_size=HIDDEN, num_attention_heads=HEADS, intermediate_size=FEED_FORWARD,
        num_hidden_layers=LAYERS, vocab_size=VOCABULARY, max_position_embeddings=20,
    )  # fmt: skip


def _bert_weights(model: hf.PreTrainedModel, layer: int) -> Weights:
    block = model.base_model.encoder.layer[layer]
    attention = block.attention
    return {
        "Q": attention.self.query.weight,
        "K": attention.self.key.weight,
        "V": attention.self.value.weight,
        "O": attention.output.dense.weight,
        "M1": block.intermediate.dense.weight,
        "M2": block.output.dense.weight,
    }


def _gpt2_config() -> hf.GPT2Config:
    return hf.GPT2Config(
        n_embd=HIDDEN,
        n_head=HEADS,
        n_inner=FEED_FORWARD,
        n_layer=LAYERS,
        vocab_size=VOCABULARY,
        n_positions=20,
    )


def _gpt2_weights(model: hf.PreTrainedModel, layer: int) -> Weights:
    block = model.base_model.h[layer]
    q, k, v = block.attn.c_attn.weight.split(HIDDEN, dim=1)  # as GPT2Attention.forward splits its output
    return {
        "Q": q.T,
        "K": k.T,
        "V": v.T,
        "O": block.attn.c_proj.weight.T,
        "M1": block.mlp.c_fc.weight.T,
        "M2": block.mlp.c_proj.weight.T,
    }


def _phi_config(kv_heads: int = 1) -> hf.PhiConfig:
    return hf.PhiConfig(
        hidden_size=HIDDEN, num_attention_heads=HEADS, num_key_value_heads=kv_heads,
        intermediate_size=FEED_FORWARD, num_hidden_layers=LAYERS, vocab_size=VOCABULARY,
        max_position_embeddings=20,
    )  # fmt: skip


def _phi_weights(model: hf.PreTrainedModel, layer: int) -> Weights:
    block = model.base_model.layers[layer]
    return {
        "Q": block.self_attn.q_proj.weight,
        "K": block.self_attn.k_proj.weight,
        "V": block.self_attn.v_proj.weight,
        "O": block.self_attn.dense.weight,
        "M1": block.mlp.fc1.weight,
        "M2": block.mlp.fc2.weight,
    }


def _gptj_config() -> hf.GPTJConfig:
    return hf.GPTJConfig(
        n_embd=HIDDEN, n_head=HEADS, n_inner=FEED_FORWARD, n_layer=LAYERS, vocab_size=VOCABULARY,
        n_positions=20, rotary_dim=4,
    )  # fmt: skip


def _gptj_weights(model: hf.PreTrainedModel, layer: int) -> Weights:
    block = model.base_model.h[layer]
    return {
        "Q": block.attn.q_proj.weight,
        "K": block.attn.k_proj.weight,
        "V": block.attn.v_proj.weight,
        "O": block.attn.out_proj.weight,
        "M1": block.mlp.fc_in.weight,
        "M2": block.mlp.fc_out.weight,
    }


CASES = [
    Case("bert_with_head", "bert", lambda: hf.BertForMaskedLM(_bert_config(hf.BertConfig)), _bert_weights),
    Case("bert_bare", "bert", lambda: hf.BertModel(_bert_config(hf.BertConfig)), _bert_weights),
    Case(
        "roberta_with_head",
        "roberta",
        lambda: hf.RobertaForMaskedLM(_bert_config(hf.RobertaConfig)),
        _bert_weights,
    ),
    Case("roberta_bare", "roberta", lambda: hf.RobertaModel(_bert_config(hf.RobertaConfig)), _bert_weights),
    Case("gpt2_with_head", "gpt2", lambda: hf.GPT2LMHeadModel(_gpt2_config()), _gpt2_weights),
    Case("gpt2_bare", "gpt2", lambda: hf.GPT2Model(_gpt2_config()), _gpt2_weights),
    Case("phi_with_head", "phi", lambda: hf.PhiForCausalLM(_phi_config()), _phi_weights),
    Case("phi_bare", "phi", lambda: hf.PhiModel(_phi_config(kv_heads=HEADS)), _phi_weights),
    Case("gptj_with_head", "gptj", lambda: hf.GPTJForCausalLM(_gptj_config()), _gptj_weights),
    Case("gptj_bare", "gptj", lambda: hf.GPTJModel(_gptj_config()), _gptj_weights),
]


def build(case: Case, seed: int = 0) -> hf.PreTrainedModel:
    """The model with every weight drawn anew at a scale of its own."""
    torch.manual_seed(seed)
    model = case.build().eval()
    with torch.no_grad():
        for layer in range(LAYERS):
            for position, weight in enumerate(case.weights(model, layer).values()):
                weight.copy_(torch.randn(weight.shape) * 1.7 ** (position + 6 * layer - 9))
    return model
