r"""How far a computed Gram matrix is from WᵀW, found with random probes.

For any matrix B and r independent standard Gaussian vectors ω,

$$\|B\|_2 \le \alpha \sqrt{2/\pi} \, \max_i \|B \omega_i\|$$

fails with probability at most $\alpha^{-r}$, whatever B is (Halko, Martinsson and Tropp 2011, "Finding
structure with randomness", Lemma 4.1). Here B is a power of E = Ĝ − WᵀW, applied in float64 to the very
values. Bounds on rounding that hold without looking grow with the length of the sums and with ‖W‖_F²; on a
Gaussian matrix they are thousands of times what the rounding is.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.spectra.workspace import Workspace

# Together a failure probability of 4^-15 < 1e-9.
PROBES, ALPHA = 15, 4.0
# Elements cast to float64 at a time: large enough for BLAS to run at its best.
_PIECE_ELEMENTS = 2**20


def gram_error(
    gram: Float[Tensor, "columns columns"],
    tall: Float[Tensor, "rows columns"],
    workspace: Workspace,
    *,
    power: int,
) -> float:
    """An upper bound on ‖Ĝ − WᵀW‖₂ that fails with probability below 1e-9, up to rounding in float64.

    Args:
        gram: Ĝ, float64, symmetric.
        tall: W, float32 or float64, exact values.
        workspace: For the pieces.
        power: Of E that the probes see. Where E is noise, one application overestimates its norm by about
            √n, two by the fourth root of n.
    """
    probes = gaussian_probes(len(gram)).to(gram.device)
    scale = 1.0
    for _ in range(power):
        probes = _apply(gram, tall, probes, workspace)
        longest = float(torch.linalg.vector_norm(probes, dim=1).max())
        if longest == 0:
            return 0.0
        probes /= longest
        scale *= longest
    return float(norm_bound(scale) ** (1 / power))


def norm_bound(longest: float) -> float:
    """The bound on ‖B‖₂ where `longest` is the largest ‖Bω‖."""
    return ALPHA * math.sqrt(2 / math.pi) * longest


def _apply(
    gram: Float[Tensor, "columns columns"],
    tall: Float[Tensor, "rows columns"],
    vectors: Float[Tensor, "few columns"],
    workspace: Workspace,
) -> Float[Tensor, "few columns"]:
    """E on each row of `vectors`, in float64."""
    image = vectors @ gram
    step = max(1, _PIECE_ELEMENTS // tall.shape[1])
    for start in range(0, len(tall), step):
        piece = tall[start : start + step]
        if piece.dtype != torch.float64:
            piece = workspace.copied("probes.piece", piece)
        image.addmm_(vectors @ piece.mT, piece, alpha=-1)
    return image


@lru_cache(maxsize=8)
def gaussian_probes(size: int) -> Float[Tensor, "few size"]:
    """Gaussian vectors that depend on the size alone, never on a matrix."""
    generator = torch.Generator().manual_seed(size)
    return torch.randn(PROBES, size, generator=generator, dtype=torch.float64)
