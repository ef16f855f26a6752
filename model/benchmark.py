"""How long one image takes, stage by stage, beside the floor: what no faithful implementation could leave out.

The floor is measured in the same run, at the same precision and batch: one plain pass of the image through the
proposals' CLIP, one pass of the classifier for each prompted image that was looked at, and one dense CRF.
"""

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model import crf
from model.presets import Preset
from model.segmenter import Segmenter
from model.sizes import resize, shrink
from model.vocabulary import vocabulary

SIZE = (500, 375)  # width and height of a usual photograph in the benchmarks of the field
QUICK = 5.0  # seconds below which a run is repeated, and the quickest of five counts

T = TypeVar("T")


@dataclass(frozen=True)
class Figures:
    """Wall seconds of one image whose texts are known already, of its floor, and of both by stage.

    cpu: processor seconds of the image and of its floor, which other programs on the machine disturb less. texts: what
    a new vocabulary costs once, in seconds. looks: prompted images the classifier saw; passes: of the recurrence; kept:
    labels that survived it. peak_memory_gib: of the process, or of the GPU where one computes.
    """

    total: float
    floor: float
    ratio: float
    stages: Mapping[str, float]
    floor_stages: Mapping[str, float]
    cpu: Mapping[str, float]
    texts: float
    labels: int
    looks: int
    passes: int
    kept: int
    peak_memory_gib: float


@dataclass(frozen=True)
class _Clocked:
    wall: float
    cpu: float


def measure(
    segmenter: Segmenter, labels: int = 20, size: tuple[int, int] = SIZE, threads: int | None = None
) -> Figures:
    """Segment a drawn picture of (width, height) for made-up labels, then time the floor of what that took.

    Labels whose masks are equal to the pixel share one look, here as anywhere; on small pictures made-up ones may.
    """
    segmenter = segmenter.under(full_price(segmenter.preset))
    if threads:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
    image, queries = picture(*size), vocabulary(f"object {number}" for number in range(1, labels + 1))
    texts, _ = clock(segmenter.device, lambda: segmenter._texts(queries))
    before = segmenter._classifier.images_seen
    run, result = clock(segmenter.device, lambda: segmenter.segment(image, queries))
    looks, kept = segmenter._classifier.images_seen - before, len(result.steps[-1].queries) if result.steps else 0
    least = _floor(segmenter, image, looks, kept)
    if run.wall < QUICK:
        more = [clock(segmenter.device, lambda: segmenter.segment(image, queries)) for _ in range(4)]
        run, result = min(more, key=lambda one: one[0].wall)
        floors = [_floor(segmenter, image, looks, kept) for _ in range(4)]
        least = {stage: min((one[stage] for one in floors), key=lambda one: one.wall) for stage in least}
    floor = sum(one.wall for one in least.values())
    return Figures(
        total=run.wall,
        floor=floor,
        ratio=run.wall / floor,
        stages={name: seconds for name, seconds in result.seconds.items() if name != "total"},
        floor_stages={name: one.wall for name, one in least.items()},
        cpu={"total": run.cpu, "floor": sum(one.cpu for one in least.values())},
        texts=texts.wall,
        labels=labels,
        looks=looks,
        passes=len(result.steps),
        kept=kept,
        peak_memory_gib=peak_memory(segmenter.device),
    )


def full_price(preset: Preset) -> Preset:
    """Return a preset under which each label is drawn, whatever is in the image, and at least one stays to the end."""
    return replace(preset, presence=0.0, keep_best="yes")


def table(figures: Figures) -> str:
    """Lay the figures out for reading."""
    rows = [*figures.stages.items(), ("in all", figures.total), ("", None)]
    rows += [(f"floor: {name}", seconds) for name, seconds in figures.floor_stages.items()]
    rows += [("floor in all", figures.floor), ("", None)]
    lines = [f"{name:24}{seconds:10.2f}" if seconds is not None else "" for name, seconds in rows]
    share = figures.cpu["total"] / figures.cpu["floor"]
    return "\n".join(
        [
            f"{'stage':24}{'seconds':>10}",
            *lines,
            f"{figures.ratio:.2f} times the floor ({share:.2f} in processor time)",
            f"{figures.labels} labels, {figures.looks} prompted images, {figures.passes} passes, {figures.kept} kept",
            f"texts of the vocabulary, once: {figures.texts:.2f} s; peak memory: {figures.peak_memory_gib:.2f} GiB",
        ]
    )


def as_json(figures: Figures) -> dict[str, object]:
    """Return the figures as JSON has them, seconds rounded to tenths of milliseconds."""

    def rounded(value: object) -> object:
        if isinstance(value, dict):
            return {name: rounded(one) for name, one in value.items()}
        return round(value, 4) if isinstance(value, float) else value

    return {name: rounded(value) for name, value in asdict(figures).items()}


def picture(width: int, height: int) -> NDArray[np.uint8]:
    """Draw soft patches of colour with fine grain, the same each time: uint8 [height, width, 3]."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    grain = generator.integers(-8, 9, (height, width, 3))
    return (resize(coarse, height, width) + grain).clip(0, 255).astype(np.uint8)


def clock(device: torch.device, work: Callable[[], T]) -> tuple[_Clocked, T]:
    """Run something, and return the wall and processor seconds it took, the GPU's work included, with its result."""
    _finish(device)
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    _finish(device)
    return _Clocked(time.perf_counter() - wall, time.process_time() - cpu), result


def _floor(segmenter: Segmenter, image: NDArray[np.uint8], looks: int, kept: int) -> dict[str, _Clocked]:
    """Time the floor for so many prompted images and surviving labels."""
    preset, proposals, classifier = segmenter.preset, segmenter._proposals, segmenter._classifier
    seen = segmenter._seen(image)
    height, width = (-(-side // proposals.patch) * proposals.patch for side in seen.shape[:2])
    whole = proposals.pixels([resize(seen, height, width)])
    side = classifier.image_size
    views = classifier.pixels([resize(seen, side, side)] * max(1, min(looks, classifier.batch)))
    drop = preset.classifier_last_block == "drop"

    def look() -> None:
        for start in range(0, looks, classifier.batch):
            classifier.images(views[: looks - start], drop)

    floor = {
        "trunk": clock(segmenter.device, lambda: proposals.images(whole))[0],
        "classifier": clock(segmenter.device, look)[0],
    }
    if kept and preset.refine != "none":
        share = min(1.0, preset.crf_max_side / max(image.shape[:2])) if preset.crf_max_side else 1.0
        small = shrink(image, max(1, round(image.shape[0] * share)), max(1, round(image.shape[1] * share)))
        maps = np.random.default_rng(0).random((kept, *small.shape[:2]), np.float32)
        floor["crf"] = clock(segmenter.device, lambda: crf.refine(small, maps, preset))[0]
    return floor


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> float:
    """Return the most memory this process had so far, in GiB: of the GPU where one computes, else its own."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
