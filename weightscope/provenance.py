"""What stands beside every result: where the weights came from and how the numbers were made."""

from __future__ import annotations

import platform
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from weightscope.checkpoint import Checkpoint
from weightscope.kernels.library import identity
from weightscope.options import Options
from weightscope.sweep.plan import Plan

if TYPE_CHECKING:
    import torch

_PACKAGES = ("weightscope", "torch", "numpy", "pandas", "pyarrow")


def provenance_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """The source's part: reference, commit, family, files."""
    source = checkpoint.source
    return {
        "checkpoint": source.reference,
        "revision": source.revision,
        "family": checkpoint.detection.spec.name,
        "files": [asdict(file) for file in source.files],
    }


def provenance_here(device: torch.device) -> dict[str, Any]:
    """This machine's part: time, versions, device, threads."""
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "platform": platform.platform(),
        "device": {"type": str(device), "name": name or platform.machine(), "kernels": identity()},
        "threads": torch.get_num_threads(),
    }


def run_identity(
    checkpoint: Checkpoint, plan: Plan, options: Options, device: torch.device
) -> dict[str, Any]:
    """All that the numbers of a run depend on: where this is equal, so are they, bit for bit."""
    here = provenance_here(device)
    numbers_of = {name: value for name, value in options.as_dict().items() if name != "memory"}
    order = sha256()
    for step in plan.steps:
        for stack in step.stacks:
            order.update(repr([(m.parameter, m.shape, m.slices) for m in stack.matrices]).encode())
    source = provenance_of(checkpoint)
    for file in source["files"]:
        del file["checked"]  # the same bytes, from wherever they come now
    return {
        **source,
        "options": {**numbers_of, "rtol": options.rtol, "seed": options.seed},
        "plan": order.hexdigest(),
        "streamed": [(m.parameter, stream.across, stream.length) for m, stream in plan.streamed],
        **{name: here[name] for name in ("versions", "device", "threads")},
    }


def versions() -> dict[str, str]:
    """Of Python, of weightscope and of what computes and writes its numbers."""
    return {"python": platform.python_version(), **{package: _version(package) for package in _PACKAGES}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout that was never installed
        return ""
