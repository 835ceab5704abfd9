"""`Task`: a training set of two classes on the unit sphere, or several as one for batched training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.errors import OptionError
from weightscope.training.seeds import generator_for


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """One training set, or several of one size."""

    inputs: Float[Tensor, "*batch samples dimension"]
    """Rows of norm 1 within rounding."""
    labels: Float[Tensor, "*batch samples"]
    """−1 or 1, in the dtype of the inputs."""


def stack(tasks: Sequence[Task]) -> Task:
    """Tasks of one size as one, with a new first axis.

    Raises:
        OptionError: There are none, or they differ in size.
    """
    if len({(task.inputs.shape, task.inputs.dtype) for task in tasks}) != 1:
        sizes = ", ".join(sorted({str(tuple(task.inputs.shape)) for task in tasks}))
        raise OptionError(
            f"{len(tasks)} tasks were to be stacked.",
            f"Their inputs are of shapes {sizes or 'of which there is none'}.",
            "Stack tasks of one size and dtype.",
        )
    return Task(
        inputs=torch.stack([task.inputs for task in tasks]),
        labels=torch.stack([task.labels for task in tasks]),
    )


def draw(seeds: Sequence[int], make: Callable[[torch.Generator], Task | Sequence[Task]]) -> Task:
    """Independent draws, one a seed, as one task.

    Args:
        seeds: See `generator_for`.
        make: What is drawn: `lambda generator: merging_tasks(generator, samples=50)`.

    Returns:
        Inputs of shape (draws, n, d), or (draws, tasks, n, d) where `make` gives several tasks.
    """
    made = [make(generator_for(seed, "data")) for seed in seeds]
    return stack([one if isinstance(one, Task) else stack(one) for one in made])
