"""Which device the numbers are computed on, and how much memory it has to give."""

import re
from pathlib import Path

import torch

from weightscope.errors import DeviceUnavailable, OptionError


def resolve_device(asked: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    `auto` is `cuda` if there is a CUDA GPU, else the CPU; `cuda` without a number means every GPU here.

    Raises:
        OptionError: The text names no device.
        DeviceUnavailable: It names one that is not here, or cannot compute in float64.
    """
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", asked):
        raise OptionError(
            f"The device {asked!r} was asked for.",
            "Devices are auto, cpu, cuda, cuda:0, cuda:1 … and mps.",
            "Use one of these.",
        )
    device = torch.device(asked)
    if device.type == "mps":
        raise DeviceUnavailable(
            "The device 'mps' was asked for.",
            "Apple's GPUs have no float64, in which every reported number is evaluated.",
            "Use --device cpu.",
        )
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise DeviceUnavailable(
            f"The device {asked!r} was asked for.",
            f"torch {torch.__version__} sees {count} CUDA devices here.",
            "Use --device cpu, or install a CUDA build of torch.",
        )
    return device


def every(device: torch.device) -> list[torch.device]:
    """The devices that are meant: all GPUs of this machine for `cuda` without a number."""
    if device.type == "cuda" and device.index is None and (count := torch.cuda.device_count()) > 1:
        return [torch.device("cuda", number) for number in range(count)]
    return [device]


def available_bytes(device: torch.device) -> int | None:
    """Memory that can still be taken on a device; None where it cannot be told."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text())
        return 1024 * int(found[1]) if found else None
    return None
