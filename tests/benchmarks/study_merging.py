"""What the outcome of paper A's Figure 3 depends on, of what the paper leaves open.

    OMP_WAIT_POLICY=passive python -m tests.benchmarks.study_merging

The arm `different` of `train merge` at size quick, at its own λ, with one number changed at a time: r is
merged over single loss of the worse task, e = (merged − single)/(ln 2 − single); median, smallest and largest
of ten draws. "both" counts the draws with r ≤ 3 and e ≤ 0.03, of which the claim F3-different wants eight.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from weightscope.recipes.load import load_recipe
from weightscope.training.experiments.merging import run_merging
from weightscope.training.merging_losses import final_losses

CHANGES: list[dict[str, Any]] = [
    {},
    *({"seed": seed} for seed in (1, 2, 3)),
    *({"widths": widths} for widths in ((300, 25), (300, 50), (300, 200), (100, 100), (1000, 100))),
    *({"samples": samples} for samples in (10, 20, 100)),
    *(
        {"weight_decay": decay, "steps": round(10 / decay), "weight_decays": (decay,)}
        for decay in (1e-3, 4e-3, 8e-3)
    ),
    *({"steps": steps} for steps in (500, 1500, 15_000)),
    *({"initialisation": name} for name in ("he", "glorot")),
    *({"initial_scale": scale} for scale in (0.3, 3.0)),
    {"label_of": "drawn"},
    {"merge": "average"},
]


def main() -> None:
    recipe: Any = load_recipe("paper_a/figure3", ["size=quick"]).recipe
    base = replace(
        recipe.setting, arms=("different",), weight_decays=(recipe.setting.weight_decay,), records=2
    )
    print(f"{'changed':<40}{'ηλt':>6}{'single':>9}{'r':>7}{'':>16}{'e':>8}{'largest':>9}{'both':>7}")
    for change in CHANGES:
        settings = replace(base, **change)
        losses = final_losses(run_merging(settings).history, "different", settings.weight_decay)
        ratio, excess = losses.ratio, losses.excesses.max(axis=1)
        both = int(((ratio <= 3) & (excess <= 0.03)).sum())
        name = ", ".join(f"{key} {value}" for key, value in change.items() if key != "weight_decays")
        spread = f"[{ratio.min():.2f}, {ratio.max():.2f}]"
        print(
            f"{name or 'nothing':<40}{settings.time:>6.3g}{losses.single.mean():>9.2g}"
            f"{np.median(ratio):>7.2f}{spread:>16}{np.median(excess):>8.4f}{excess.max():>9.4f}{both:>4}/{len(ratio)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
