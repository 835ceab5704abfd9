"""Checkpoints of the architectures of paper A's Table 1, small and random, saved by transformers itself."""

import json
from pathlib import Path

import torch
import transformers as hf

# Name in the recipes -> model class and config; layers differ, so that rows of a figure can be told apart.
SMALL = {
    "bert": (
        hf.BertForPreTraining,
        hf.BertConfig(
            num_hidden_layers=5, hidden_size=48, num_attention_heads=4, intermediate_size=192, vocab_size=64
        ),
    ),
    "roberta": (
        hf.RobertaForMaskedLM,
        hf.RobertaConfig(
            num_hidden_layers=4, hidden_size=48, num_attention_heads=4, intermediate_size=192, vocab_size=64
        ),
    ),
    "gpt2-large": (
        hf.GPT2LMHeadModel,
        hf.GPT2Config(n_layer=6, n_embd=40, n_head=4, vocab_size=64, n_positions=32),
    ),
    "gpt2-xl": (
        hf.GPT2LMHeadModel,
        hf.GPT2Config(n_layer=8, n_embd=48, n_head=4, vocab_size=64, n_positions=32),
    ),
    "phi-2": (
        hf.PhiForCausalLM,
        hf.PhiConfig(
            num_hidden_layers=6, hidden_size=64, num_attention_heads=4, intermediate_size=256, vocab_size=64
        ),
    ),
    "gpt-j": (
        hf.GPTJForCausalLM,
        hf.GPTJConfig(n_layer=5, n_embd=64, n_head=4, rotary_dim=8, vocab_size=64, n_positions=32),
    ),
}


def write_small(folder: Path, name: str) -> Path:
    """The checkpoint of one of them, weights drawn with a fixed seed."""
    model_class, config = SMALL[name]
    torch.manual_seed(sorted(SMALL).index(name))
    model_class(config).save_pretrained(folder)
    return folder


def sizes_of(folder: Path) -> tuple[int, int, int]:
    """Layers, model dimension and feed-forward dimension as config.json states them, under its own names."""
    config = json.loads((folder / "config.json").read_text())
    if "hidden_size" in config:
        return config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"]
    return config["n_layer"], config["n_embd"], config["n_inner"] or 4 * config["n_embd"]
