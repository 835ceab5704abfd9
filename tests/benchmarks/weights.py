"""Checkpoints of Phi-2's shape: layers of Q, K, V, O 2560x2560, M1 10240x2560, M2 2560x10240, bfloat16."""

from pathlib import Path

import torch

from tests.factories import write_checkpoint

SHAPES = {
    "self_attn.q_proj": (2560, 2560),
    "self_attn.k_proj": (2560, 2560),
    "self_attn.v_proj": (2560, 2560),
    "self_attn.dense": (2560, 2560),
    "mlp.fc1": (10240, 2560),
    "mlp.fc2": (2560, 10240),
}
CONFIG = {
    "model_type": "phi", "hidden_size": 2560, "num_attention_heads": 32, "intermediate_size": 10240,
}  # fmt: skip


def weight(shape: tuple[int, int], spectra: str, generator: torch.Generator) -> torch.Tensor:
    """`gaussian`: as initialised. `trained`: 64 singular values falling as i^-0.7 above a Gaussian bulk.

    The latter stands in for trained weights, whose spectra rise from a bulk in a similar way.
    """
    noise = 0.02 * torch.randn(*shape, generator=generator)
    if spectra == "gaussian":
        return noise.to(torch.bfloat16)
    rank = 64
    left = torch.linalg.qr(torch.randn(shape[0], rank, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(shape[1], rank, generator=generator)).Q
    values = 0.12 * noise.norm() * torch.arange(1, rank + 1) ** -0.7
    return (0.7 * noise + (left * values) @ right.T).to(torch.bfloat16)


def phi2_shaped(folder: Path, *, layers: int, spectra: str) -> Path:
    """Write a checkpoint; every layer has weights of its own."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"model.layers.{layer}.{name}.weight": weight(shape, spectra, generator)
        for layer in range(layers)
        for name, shape in SHAPES.items()
    }
    return write_checkpoint(folder, tensors, {**CONFIG, "num_hidden_layers": layers})
