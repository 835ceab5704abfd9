"""What an analysis would do and where, from headers, options and the memory there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from weightscope.checkpoint import Checkpoint
from weightscope.counting import listed
from weightscope.errors import DeviceMemoryError
from weightscope.families.select import select
from weightscope.families.spec import DEFAULT_GROUPS, Group
from weightscope.options import Options
from weightscope.sweep.memory import DEFAULT_SHARE, Fitted, Needs, fit
from weightscope.sweep.streaming import read_by_columns

if TYPE_CHECKING:
    import torch


def plan_analysis(checkpoint: Checkpoint, options: Options) -> tuple[Fitted, torch.device]:
    """What `analyze_checkpoint` would do and where, without reading a weight.

    Raises:
        SelectionError: A layer the checkpoint does not have.
        FamilyMismatch: The tensors do not fit their family.
        DeviceUnavailable: The device is not here.
        DeviceMemoryError: A matrix needs more memory than there is, or than was allowed.
    """
    import torch

    from weightscope.sweep.devices import available_bytes, every, resolve_device

    device = resolve_device(options.device)
    # Any of several devices may get the largest step.
    free = min((available_bytes(one) for one in every(device)), key=lambda one: one or 0)
    fitted = fit(
        select(checkpoint.matrices, options.groups, options.layers),
        checkpoint.tensors,
        limit=options.memory or (None if free is None else int(DEFAULT_SHARE * free)),
        threads=torch.get_num_threads(),
        needs=Needs(with_spectrum=options.spectrum, by_svd=options.spectrum_method == "svdvals"),
    )
    _check_columns(checkpoint, fitted, options)
    return fitted, device


def groups_not_there(checkpoint: Checkpoint, options: Options) -> tuple[str, ...]:
    """A sentence on groups that were named beside others and that the checkpoint does not have."""
    if set(options.groups) in (set(DEFAULT_GROUPS), set(Group)):  # nobody named one
        return ()
    there = {matrix.group for matrix in checkpoint.matrices}
    absent = [group for group in options.groups if group not in there]
    if not absent or len(absent) == len(options.groups):  # of none at all the command itself says why
        return ()
    which = f"{'group' if len(absent) == 1 else 'groups'} {listed(absent)}"
    has = ", ".join(group for group in Group if group in there)
    were = "was" if len(absent) == 1 else "were"
    return (f"There is no matrix of {which}, which {were} asked for: there are {has}.",)


def _check_columns(checkpoint: Checkpoint, fitted: Fitted, options: Options) -> None:
    """Whether the source can give every block that the plan reads."""
    for step in fitted.plan.steps:
        if step.stream is None:
            continue
        for info in read_by_columns(step, step.stream):
            if checkpoint.source.is_remote(info):
                raise DeviceMemoryError(
                    f"Tensor {info.name!r} does not fit the memory that the run may take, and was to be read "
                    "in blocks.",
                    "It is stored the long way round: a block is a piece of each of its "
                    f"{info.shape[0]:,} rows, and over the network each would be a request.",
                    "Add --cache to download the file first, or give more with --memory.",
                )
