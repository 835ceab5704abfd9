"""When paper A's Figure 2 shows its trend, of what the paper leaves open.

    OMP_WAIT_POLICY=passive python -m tests.benchmarks.study_decay

`train lambda` at size quick with some numbers changed: for each frequency (10 and 100) Spearman's ρ of λ and
mean inverse stable rank with its interval over draws, the rank at λ = 0 and at the largest λ at which half of
the nets live, that λ, and the largest mean error of nets that live. ηt is the step
size times the number of steps, η/B the strength of the noise.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from weightscope.recipes.load import load_recipe
from weightscope.training.decay_claims import judge_decay, sweep_of
from weightscope.training.experiments.decay_sweep import frequency_arm, run_decay

NEAR = (0.0, *(round(1e-3 * 10 ** (k / 16), 6) for k in range(13)))
PLATEAU = (0.0, *(round(1e-4 * 10 ** (k / 10), 7) for k in range(11)))
CHANGES: list[dict[str, Any]] = [
    {},
    {"initialisation": "he"},
    {"initialisation": "glorot"},
    {"initial_scale": 3.0},
    {"width": 20},
    {"step_size": 0.1, "epochs": 200},
    {"step_size": 0.1, "batch_size": 10},
    {"step_size": 0.3, "batch_size": 10, "epochs": 170},
    {"step_size": 1.0, "batch_size": 10},
    {"initialisation": "he", "step_size": 0.5, "batch_size": 10},
    {"samples": 3000, "epochs": 300},
    {"weight_decays": PLATEAU},
    {"weight_decays": NEAR},
]
NAMES = {PLATEAU: "λ from 1e-4 to 1e-3", NEAR: "λ from 1e-3 to 6e-3"}


def main() -> None:
    recipe: Any = load_recipe("paper_a/figure2", ["size=quick"]).recipe
    print(f"{'changed':<55}{'ηt':>7}{'η/B':>7}  frequency, ρ, interval, rank, at λ, error")
    for change in CHANGES:
        setting = replace(recipe.setting, records=2, **change)
        history = run_decay(setting).history
        claims = {claim.id: claim for claim in judge_decay(history, setting, recipe.thresholds, prefix="F2")}
        steps = setting.epochs * -(-setting.samples // setting.batch_size)
        name = ", ".join(f"{key} {NAMES.get(value, value)}" for key, value in change.items())
        lead = f"{name or 'nothing':<55}{setting.step_size * steps:>7.0f}"
        lead += f"{setting.step_size / setting.batch_size:>7.3g}"
        for frequency in setting.frequencies:
            arm = frequency_arm(frequency)
            sweep, trend = sweep_of(history, arm), claims[f"F2-trend/{arm.replace(' ', '-')}"]
            ranks, errors = np.nanmean(sweep.ranks, axis=0), np.nanmean(sweep.errors, axis=0)
            low, high = trend.interval or (np.nan, np.nan)
            print(
                f"{lead}{frequency:>5g}{trend.value:>7.2f} [{low:.2f}, {high:.2f}]"
                f"{ranks[0]:>7.3f} →{ranks[-1]:>6.3f}{sweep.decays[-1]:>9.2g}{errors.max():>7.2f}",
                flush=True,
            )
            lead = " " * len(lead)


if __name__ == "__main__":
    main()
