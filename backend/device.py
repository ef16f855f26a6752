"""The device that a worker works on: its name, its memory, and giving some of that back."""

from __future__ import annotations

from contextlib import suppress

from backend.status.reports import Device
from model.segmenter import Segmenter


def device_of(segmenter: Segmenter) -> Device:
    """The device that a segmenter works on, and what this process holds of its memory now."""
    if not str(segmenter.device).startswith("cuda"):
        return Device(str(segmenter.device))
    from torch import cuda

    _, total = cuda.mem_get_info(segmenter.device)
    name = f"{cuda.get_device_name(segmenter.device)} ({segmenter.device})"
    return Device(name, cuda.memory_reserved(segmenter.device), total)


def free_device_memory() -> None:
    """Give back what a failed attempt left cached: the next one may lack it, or another worker on the same card."""
    from torch import cuda

    with suppress(RuntimeError):  # a broken context fails here too
        cuda.empty_cache()
