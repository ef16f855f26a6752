"""How many images a stream gets through: in one process, or in several that share a card.

Each process loads its own weights and knows its texts before the clock starts. Beside a GPU the processes' drawers work
(`model.stream`); on a CPU they do where cores are left over.
"""

import multiprocessing
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import mean
from typing import Any

import cv2
import numpy as np
import torch

from model.benchmark import full_price, peak_memory, picture
from model.presets import Preset
from model.segmenter import Segmenter
from model.vocabulary import vocabulary

PATIENCE = 1800  # seconds until all processes must be ready


@dataclass(frozen=True)
class Job:
    """What each process does: `images` pictures of (width, height), each searched for `labels` made-up labels."""

    preset: Preset
    device: str | None
    weights: str | None
    labels: int
    size: tuple[int, int]
    images: int
    drawers: int | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Throughput:
    """What all processes did together.

    gpu_busy: the share of the time in which the card computed, 0..1, None on a CPU or where nvidia-smi is missing.
    peak_memory_gib: of the process that needed most, on the card where one computes.
    """

    images_per_second: float
    processes: int
    images: int
    labels: int
    drawers: int
    gpu_busy: float | None
    peak_memory_gib: float


@dataclass(frozen=True)
class _Run:
    began: float
    ended: float
    drawers: int
    peak_memory_gib: float
    busy: float | None


def measure(job: Job, processes: int = 1) -> Throughput:
    """Run a job in so many processes at once."""
    if processes == 1:
        runs = [_run(job, lambda: None)]
    else:
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(processes)
        with ProcessPoolExecutor(processes, context, initializer=_share, initargs=(barrier,)) as pool:
            runs = [future.result() for future in [pool.submit(_together, job) for _ in range(processes)]]
    seconds = max(run.ended for run in runs) - min(run.began for run in runs)
    busy = [run.busy for run in runs if run.busy is not None]
    return Throughput(
        images_per_second=processes * job.images / seconds,
        processes=processes,
        images=job.images,
        labels=job.labels,
        drawers=runs[0].drawers,
        gpu_busy=mean(busy) if busy else None,
        peak_memory_gib=max(run.peak_memory_gib for run in runs),
    )


def table(figures: Throughput) -> str:
    """Lay the figures out for reading."""
    busy = "" if figures.gpu_busy is None else f"; the GPU computes {figures.gpu_busy:.0%} of the time"
    return (
        f"{figures.images_per_second:.2f} images per second: {figures.processes} x {figures.images} images, "
        f"{figures.labels} labels, {figures.drawers} drawers each{busy}; "
        f"peak memory of a process: {figures.peak_memory_gib:.2f} GiB"
    )


@contextmanager
def watched(device: torch.device) -> Iterator[Callable[[], float | None]]:
    """Watch how busy a card is, whoever uses it; the function given returns the share of the time, after the block."""
    shares: list[float] = []
    if device.type != "cuda":
        yield lambda: None
        return
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
    try:
        smi = subprocess.Popen([*command, f"--id={device.index or 0}"], stdout=subprocess.PIPE, text=True)
    except OSError:
        yield lambda: None
        return
    try:
        yield lambda: mean(shares) if shares else None
    finally:
        smi.terminate()
        told, _ = smi.communicate()
        shares += [int(line) / 100 for line in told.split() if line.isdigit()]


def _run(job: Job, ready: Callable[[], Any]) -> _Run:
    """Load, warm up, say that all is ready, and stream."""
    if job.threads:
        torch.set_num_threads(job.threads)
        cv2.setNumThreads(job.threads)
    segmenter = Segmenter(full_price(job.preset), job.device, job.weights)
    drawers = segmenter.drawers if job.drawers is None else job.drawers
    queries = vocabulary(f"object {number}" for number in range(1, job.labels + 1))
    image = picture(*job.size)
    segmenter.segment(image, queries)
    images = (np.roll(image, shift, axis=1) for shift in range(job.images))
    ready()
    began = time.time()
    with watched(segmenter.device) as busy:
        for result in segmenter.stream(images, queries, drawers=drawers):
            if isinstance(result, Exception):
                raise result
        ended = time.time()
    return _Run(began, ended, drawers, peak_memory(segmenter.device), busy())


def _share(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _together(job: Job) -> _Run:
    """Run a job as soon as every process is ready; one that fails does not let the others wait."""
    try:
        return _run(job, lambda: _barrier.wait(PATIENCE))
    except Exception:
        _barrier.abort()
        raise


_barrier: Any = None
