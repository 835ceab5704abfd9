"""`Claim`: what a paper says, the statistic that decides it, and the verdict.

Which statistic and which threshold stands beside an experiment was fixed before its first run. Verdicts
know three words: a claim is `undecided` where the runs are too few or too short to tell.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

Verdict = Literal["held", "not_held", "undecided"]
Interval = tuple[float, float]
COLLAPSED = 1e-3
"""A net of which less than this share of its initial norm is left has collapsed: no number of it counts."""
LIVING = 0.5
"""Share of the draws whose nets live, at which λ counts: of fewer the survivors are no sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One row of `claims.json`."""

    id: str
    """Such as `F3-different`; `F3-different/no-decay` is a negative control of it."""
    claim: str
    """What the paper says, in a sentence; of a control, what must not hold."""
    verdict: Verdict
    """What the statistic says."""
    statistic: str
    """How `value` is found."""
    value: float | None
    """The statistic; None where there is nothing to compute it from."""
    threshold: str
    """Where it holds."""
    interval: Interval | None
    """95 % over draws; None where there is none."""
    draws: int
    """How many the statistic is of."""
    reason: str = ""
    """Why it is undecided."""
    detail: str = ""
    """What else tells of the value: the spread of its parts, what was left out."""
    control: bool = False
    """Whether this is a negative control, which ought not to hold."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no NaN."""
        content = asdict(self)
        content["value"] = _known(self.value)
        content["interval"] = None if self.interval is None else [_known(end) for end in self.interval]
        return content


def _known(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def write_claims(claims: Sequence[Claim], path: Path) -> None:
    """Write `claims.json`."""
    text = json.dumps([claim.as_dict() for claim in claims], indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_claims(path: Path) -> list[Claim]:
    """What `write_claims` wrote.

    Raises:
        OSError, ValueError, TypeError: It is not there, or no such file.
    """
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [Claim(**{**row, "interval": row["interval"] and tuple(row["interval"])}) for row in rows]


def verdict_of(holds: bool, *doubts: str) -> tuple[Verdict, str]:
    """The verdict and its reason: undecided if there is a doubt."""
    reasons = [doubt for doubt in doubts if doubt]
    if reasons:
        return "undecided", "; ".join(reasons)
    return ("held" if holds else "not_held"), ""


def joined(name: str, claim: str, parts: Sequence[Claim]) -> Claim:
    """Several claims as one: held if all are, not held if one is not."""
    verdicts = {part.verdict for part in parts}
    verdict: Verdict = "held" if verdicts == {"held"} else "undecided"
    if "not_held" in verdicts:
        verdict = "not_held"
    return Claim(
        id=name,
        claim=claim,
        verdict=verdict,
        statistic=f"how many hold of {', '.join(part.id for part in parts)}",
        value=float(sum(part.verdict == "held" for part in parts)),
        threshold=f"= {len(parts)}",
        interval=None,
        draws=min((part.draws for part in parts), default=0),
        reason=next((part.reason for part in parts if part.verdict == "undecided" == verdict), ""),
        control=any(part.control for part in parts),
    )


def too_few(draws: int, fewest: int) -> str:
    """The doubt that there are too few draws."""
    return f"{draws} draws, and fewer than {fewest} tell nothing of their spread" if draws < fewest else ""


def bootstrap(
    values: Float[np.ndarray, draws * columns],
    statistic: Callable[[Float[np.ndarray, draws * columns]], float],
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval | None:
    """Percentile bootstrap interval of a statistic over draws; None of fewer than two draws.

    Args:
        values: A row a draw: what belongs to one draw stays together.
        statistic: Of such an array.
        seed: Of the resampling.
        resamples: How many.
        level: Of confidence.
    """
    if len(values) < 2:
        return None
    generator = np.random.default_rng(seed)
    chosen = generator.integers(len(values), size=(resamples, len(values)))
    found = np.array([statistic(values[rows]) for rows in chosen])
    found = found[np.isfinite(found)]
    if not len(found):
        return None
    outside = 100 * (1 - level) / 2
    low, high = np.percentile(found, [outside, 100 - outside])
    return float(low), float(high)


def mean_interval(values: Float[np.ndarray, " draws"], *, level: float = 0.95) -> Interval | None:
    """Student's interval of a mean: of few draws a bootstrap's is too narrow."""
    if len(values) < 2:
        return None
    from scipy.stats import t

    half = float(t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half


def share_interval(count: int, of: int) -> Interval | None:
    """95 % interval of a share by Clopper and Pearson (1934)."""
    if of == 0:
        return None
    from scipy.stats import binomtest

    low, high = binomtest(count, of).proportion_ci(0.95, method="exact")
    return float(low), float(high)


def spearman(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> float:
    """Spearman's ρ; 0 where one of them does not vary, as it then follows nothing."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    from scipy.stats import rankdata

    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def shuffled_rows(
    values: Float[np.ndarray, "draws columns"], *, seed: int = 0
) -> Float[np.ndarray, "draws columns"]:
    """Each draw's values in an order of their own: what is left of a trend then is chance."""
    return np.random.default_rng(seed).permuted(values, axis=1)
