"""Tensors with the names and shapes of known families, without their models."""

import torch

WIDTH, INNER = 8, 12


def llama_layer(layer: int, prefix: str = "model.", seed: int = 0) -> dict[str, torch.Tensor]:
    """One layer with grouped queries."""
    generator = torch.Generator().manual_seed(1000 * seed + layer)
    shapes = {
        "self_attn.q_proj": (8, WIDTH), "self_attn.k_proj": (4, WIDTH), "self_attn.v_proj": (4, WIDTH),
        "self_attn.o_proj": (WIDTH, 8), "mlp.gate_proj": (INNER, WIDTH), "mlp.up_proj": (INNER, WIDTH),
        "mlp.down_proj": (WIDTH, INNER),
    }  # fmt: skip
    return {
        f"{prefix}layers.{layer}.{name}.weight": torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
    }


def llama(*layers: int, prefix: str = "model.", seed: int = 0) -> dict[str, torch.Tensor]:
    """Some layers, embedding and head."""
    tensors = {
        f"{prefix}embed_tokens.weight": torch.randn(11, WIDTH),
        "lm_head.weight": torch.randn(11, WIDTH),
        f"{prefix}norm.weight": torch.ones(WIDTH),
    }
    for layer in layers:
        tensors |= llama_layer(layer, prefix, seed)
    return tensors


def llama_config(layers: int, **more: object) -> dict[str, object]:
    """What config.json says of it."""
    return {
        "model_type": "llama", "num_hidden_layers": layers, "hidden_size": WIDTH,
        "num_attention_heads": 4, "num_key_value_heads": 2, **more,
    }  # fmt: skip
