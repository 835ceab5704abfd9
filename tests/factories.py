"""Tiny checkpoints on disk, written with the safetensors library itself."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

GPT2_CONFIG: dict[str, Any] = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "n_layer": 2,
    "n_embd": 8,
    "n_head": 2,
    "vocab_size": 11,
}


def write_checkpoint(
    folder: Path,
    tensors: Mapping[str, torch.Tensor],
    config: Mapping[str, Any] | None = None,
    *,
    shards: int = 1,
) -> Path:
    """A checkpoint folder; with several shards an index too, tensors dealt out in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        weight_map = {}
        for number in range(shards):
            name = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
            part = dict(list(tensors.items())[number::shards])
            save_file(part, folder / name, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(part, name)
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": weight_map})
        )
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def gpt2_tensors(
    *, layers: int = 2, width: int = 8, vocabulary: int = 11, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Random tensors with the names and shapes of a GPT-2 checkpoint on the Hub (no prefix, masks kept)."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    tensors = {"wte.weight": random(vocabulary, width), "wpe.weight": random(16, width)}
    for layer in range(layers):
        tensors |= {
            f"h.{layer}.ln_1.weight": random(width),
            f"h.{layer}.attn.bias": torch.ones(1, 1, 16, 16).tril(),
            f"h.{layer}.attn.c_attn.weight": random(width, 3 * width),
            f"h.{layer}.attn.c_attn.bias": random(3 * width),
            f"h.{layer}.attn.c_proj.weight": random(width, width),
            f"h.{layer}.mlp.c_fc.weight": random(width, 4 * width),
            f"h.{layer}.mlp.c_proj.weight": random(4 * width, width),
        }
    return tensors


def write_gpt2(folder: Path, *, shards: int = 1, **sizes: int) -> Path:
    """A small GPT-2 checkpoint folder."""
    tensors = gpt2_tensors(**sizes)
    config = {**GPT2_CONFIG, "n_layer": sizes.get("layers", 2), "n_embd": sizes.get("width", 8)}
    return write_checkpoint(folder, tensors, config, shards=shards)
