"""The tasks of paper A's experiments: inputs on the unit sphere, labels −1 and 1.

Everything is drawn and projected in float64 from a generator on the CPU, and rounded once at the end: a task
in float32 is the rounded task in float64, with the same labels. Shapes: n samples, d dimensions.

Source: Kuzborskij and Abbasi Yadkori, "Low-rank bias, weight decay, and model merging in neural networks"
(2025), sections 6.1 (Figure 2) and 6.2 (Figure 3), Appendix C.2 (Figure 5).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from weightscope.errors import DataFormatError, OptionError
from weightscope.training.image_set import ImageSet
from weightscope.training.task import Task

Arm = Literal["different", "conflicting", "identical"]
ARMS: tuple[Arm, ...] = get_args(Arm)
"""`different`: inputs of the two tasks are orthogonal. `conflicting`: one input law, two labellings.
`identical`: one input law, one labelling, two samples."""


def decay_task(
    generator: torch.Generator,
    *,
    samples: int = 1000,
    dimension: int = 100,
    frequency: float = 10.0,
    dtype: torch.dtype = torch.float32,
) -> Task:
    """Figure 2: inputs from N(0, I) on the unit sphere, labels sign(sin(frequency wᵀx)), w from N(0, I).

    The same generator gives the same w and inputs at every frequency.

    Args:
        generator: On the CPU.
        samples: n.
        dimension: d.
        frequency: 10 in Figure 2's left plot, 100 in its right.
        dtype: Of the result.

    Raises:
        OptionError: No samples or no dimensions.
    """
    _at_least("samples", samples, 1)
    _at_least("dimension", dimension, 1)
    target = _gaussian(generator, dimension)
    inputs = _on_sphere(_gaussian(generator, samples, dimension))
    # "projected onto a unit sphere. Given an input x_i, the label": x_i is the projected one.
    return _task(inputs, _signs(inputs, target, frequency), dtype)


def merging_tasks(
    generator: torch.Generator,
    *,
    samples: int,
    dimension: int = 100,
    arm: Arm = "different",
    label_of: Literal["projected", "drawn"] = "projected",
    shared_inputs: bool = False,
    dtype: torch.dtype = torch.float32,
) -> tuple[Task, Task]:
    """Figure 3: two tasks with labels sign(sin(wᵀx)) on the unit sphere, w from N(0, I) for each.

    The inputs are from N(0, Σ₁) and N(0, Σ₂), Σ₁ = diag(1, …, 1, 0, …, 0) and Σ₂ its reverse, each of rank
    d/2 (our reading of ⟨Σ₁, Σ₂⟩ = 0). In the other two arms both are from N(0, Σ₁) (our reading: then the
    arms differ in nothing but the angle and the labels). The first task is the same in all arms, bit for bit.

    Args:
        generator: On the CPU.
        samples: n, of each task; not in the paper.
        dimension: d, even.
        arm: One of `ARMS`.
        label_of: Which x is in sin(wᵀx): the `projected` input (our reading: section 6.1 projects before it
            speaks of labels, and 6.2 calls the labelled x an input, which "are projected"), or the Gaussian
            vector as `drawn`. Of the projected ones the sine seldom matters: 99.8 % of labels are sign(wᵀx).
        shared_inputs: Whether the two tasks of `conflicting` have the same inputs, half of them with opposite
            labels. No by default (our reading: the other arms draw each task's inputs).
        dtype: Of the results.

    Raises:
        OptionError: No such arm, no samples, or an odd dimension.
    """
    _known_arm(arm)
    _at_least("samples", samples, 1)
    _at_least("dimension", dimension, 2)
    if dimension % 2:
        raise OptionError(
            f"The dimension {dimension} was asked for.", "Each task has half of it.", "Take an even number."
        )
    if label_of not in ("projected", "drawn"):
        raise OptionError(
            f"label_of={label_of!r} was asked for.", "Labels are of inputs.", "Use projected or drawn."
        )
    if shared_inputs and arm != "conflicting":
        raise OptionError(
            f"Shared inputs were asked for in the arm {arm!r}.",
            "There the tasks would be equal, or not orthogonal.",
            "They belong to the arm conflicting.",
        )
    half = dimension // 2
    # Drawn in this order and size whatever the arm.
    targets = [_gaussian(generator, dimension) for _ in range(2)]
    draws = [_gaussian(generator, samples, half) for _ in range(2)]
    tasks = []
    for number in range(2):
        drawn = draws[0 if shared_inputs else number]
        zeros = torch.zeros_like(drawn)
        second_half = number == 1 and arm == "different"
        vectors = torch.cat([zeros, drawn] if second_half else [drawn, zeros], dim=1)
        inputs = _on_sphere(vectors)
        target = targets[0 if arm == "identical" else number]
        labels = _signs(inputs if label_of == "projected" else vectors, target, 1.0)
        tasks.append(_task(inputs, labels, dtype))
    return tasks[0], tasks[1]


def image_tasks(
    generator: torch.Generator,
    images: ImageSet,
    *,
    samples: int,
    arm: Arm = "different",
    first_group: int = 5,
    balanced: bool = False,
    shared_images: bool = True,
    dtype: torch.dtype = torch.float32,
) -> tuple[Task, Task]:
    """Figure 5: pictures as rows on the unit sphere, the first classes (−1) against the others (1).

    `different`: pixels and then as many zeros in task 1, zeros and then pixels in task 2, whose labels are
    inverted. `conflicting`: no zeros, labels of task 2 inverted. `identical`: no zeros, labels as they are,
    other pictures in task 2. The first task has the same pictures in all arms.

    Args:
        generator: On the CPU.
        images: Where the pictures are drawn from, without replacement.
        samples: n, of each task.
        arm: One of `ARMS`.
        first_group: Number of classes that are labelled −1.
        balanced: Whether each task has n/2 of both labels (one more −1 if n is odd). Not in the paper: no, as
            "random draws of the sample" says nothing of it.
        shared_images: Whether both tasks have the same pictures, but for `identical` (our reading: Appendix
            C.2 adapts one sample to two tasks). Then in `conflicting` the mean of any one network's losses on
            the two tasks is at least ln 2.
        dtype: Of the results.

    Raises:
        OptionError: No such arm, more samples than there are pictures, or one label only.
        DataFormatError: A picture that is all black, which no scale brings to the sphere.
    """
    _known_arm(arm)
    _at_least("samples", samples, 1)
    if not 0 < first_group < len(images.class_names):
        raise OptionError(
            f"The first {first_group} classes of {images.name} were to be labelled −1, the others 1.",
            f"It has {len(images.class_names)}.",
            "Both labels need a class.",
        )
    shared = shared_images and arm != "identical"
    order = torch.randperm(len(images), generator=generator)
    high = images.labels[order] >= first_group
    # Of each pile a task takes so many: from one pile of all, or from one of each label.
    piles = (
        [(order[~high], samples - samples // 2), (order[high], samples // 2)]
        if balanced
        else [(order, samples)]
    )
    for pile, share in piles:
        _at_most(images, samples, len(pile), share if shared else 2 * share)
    tasks = []
    for number in range(2):
        skipped = number and not shared
        rows = torch.cat([pile[skipped * share :][:share] for pile, share in piles])
        inputs = _picture_rows(images, rows)
        labels = torch.where(images.labels[rows] >= first_group, 1.0, -1.0).double()
        if arm == "different":
            zeros = torch.zeros_like(inputs)
            inputs = torch.cat([zeros, inputs] if number else [inputs, zeros], dim=1)
        inverted = number == 1 and arm != "identical"
        tasks.append(_task(inputs, -labels if inverted else labels, dtype))
    return tasks[0], tasks[1]


def _gaussian(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _on_sphere(rows: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / norms


def _signs(inputs: Tensor, target: Tensor, frequency: float) -> Tensor:
    """The sign of f = sin(frequency wᵀx), and 1 where it is 0: the paper's 2·1(1/(1 + e^−f) ≥ 1/2) − 1."""
    return torch.where(torch.sin(frequency * (inputs @ target)) >= 0, 1.0, -1.0).double()


def _task(inputs: Tensor, labels: Tensor, dtype: torch.dtype) -> Task:
    return Task(inputs=inputs.to(dtype), labels=labels.to(dtype))


def _picture_rows(images: ImageSet, rows: Tensor) -> Tensor:
    pixels = images.flat()[rows].double()
    black = torch.nonzero(~pixels.any(dim=1)).flatten()
    if len(black):
        raise DataFormatError(
            f"Pictures of {images.name} were to be scaled to norm 1.",
            f"Picture {int(rows[black[0]])} is all black.",
            "Take another seed or another data set.",
        )
    return _on_sphere(pixels)


def _known_arm(arm: str) -> None:
    if arm not in ARMS:
        raise OptionError(
            f"The arm {arm!r} was asked for.", "There is none.", f"Use one of {', '.join(ARMS)}."
        )


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise OptionError(
            f"{name}={value} was asked for.", f"It must be {least} or more.", "Take a larger number."
        )


def _at_most(images: ImageSet, samples: int, there: int, needed: int) -> None:
    if needed > there:
        raise OptionError(
            f"{samples:,} samples a task were asked for from {images.name} ({images.source.split}).",
            f"That takes {needed:,} pictures of a kind of which there are {there:,}.",
            "Take fewer samples or a larger data set.",
        )
