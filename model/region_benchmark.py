"""How long regions take: matching many masks with many proposals, and HQ-SAM stage by stage."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from time import process_time
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model.benchmark import clock
from model.matching import Proposals, matched, overlaps
from model.presets import DEMO, Preset

LEAST = 100  # proposals that random weights have to give, or the path was not seen
LABELS = ("mount fuji", "coca cola logo", "firefox logo")  # in the first of the demo's studio scenes

T = TypeVar("T")


@dataclass(frozen=True)
class Matching:
    """Processor seconds of matching masks with proposals, by `model.matching` and pixel by pixel.

    read: proposals from SAM's run lengths; match: all overlaps and the replaced masks; naive: all overlaps, counted one
    pair after the other. runs: run lengths of all proposals. equal: whether both count the same pixels.
    """

    masks: int
    proposals: int
    side: int
    runs: int
    read: float
    match: float
    naive: float
    equal: bool


def time_matching(masks: int = 20, proposals: int = 1000, side: int = 1024) -> Matching:
    """Match drawn masks with drawn proposals, given as SAM gives them, on an image of side x side pixels."""
    generator = np.random.default_rng(0)
    drawn = np.stack([blob(generator, side) for _ in range(masks)])
    shapes = [run_lengths(blob(generator, side)) for _ in range(proposals)]
    started = process_time()
    regions = Proposals.of((side, side), shapes)
    read = process_time()
    matched(drawn, regions, phi_iou=0.3)
    done = process_time()
    found = overlaps(drawn, regions)
    again = process_time()
    naive = np.array(
        [[np.count_nonzero(one & other) for one in drawn] for other in map(regions.mask, range(len(regions)))]
    )
    return Matching(
        masks=masks,
        proposals=len(regions),
        side=side,
        runs=sum(len(shape["counts"]) for shape in shapes),
        read=read - started,
        match=done - read,
        naive=process_time() - again,
        equal=bool((found.common == naive.T).all()),
    )


def blob(generator: np.random.Generator, side: int) -> NDArray[np.bool_]:
    """Draw an uneven shape with a few holes and specks, as SAM's masks have them: [side, side]."""
    centre = generator.integers(0, side, 2)
    angles = np.sort(generator.uniform(0, 2 * np.pi, 24))
    reach = side * generator.uniform(0.02, 0.25) * generator.uniform(0.5, 1.2, 24)
    corners = np.stack([centre[0] + reach * np.cos(angles), centre[1] + reach * np.sin(angles)], axis=1)
    canvas = np.zeros((side, side), np.uint8)
    cv2.fillPoly(canvas, [corners.astype(np.int32)], 1)
    for place in generator.normal(centre, reach.mean(), (20, 2)):
        cv2.circle(
            canvas, [int(place[0]), int(place[1])], int(generator.integers(1, 4)), int(generator.integers(2)), -1
        )
    return canvas.astype(bool)


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Write a mask as SAM writes it, uncompressed: lengths of runs down the columns, beginning with zeros."""
    flat = mask.T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


@dataclass(frozen=True)
class Stages:
    """Wall and processor seconds of HQ-SAM on one demo scene, which other programs on the machine disturb less.

    asked: points of the grid; proposals: masks that came of it.
    """

    model: str
    device: str
    asked: int
    proposals: int
    wall: Mapping[str, float]
    cpu: Mapping[str, float]


def time_sam(preset: Preset, device: str | None = None) -> Stages:
    """Segment one of the demo's scenes with `refine` crf, sam and sam-prompt; then time HQ-SAM's own stages.

    Raises TooFewProposalsError where random weights show nothing, WeightsError without weights.
    """
    from model.pictures import read_image
    from model.segmenter import Segmenter
    from model.vocabulary import vocabulary

    segmenter = Segmenter(replace(preset, refine="crf"), device)
    scene = read_image(DEMO / "scenes" / "studio" / "images" / "001.png")
    queries = vocabulary(LABELS)
    segmenter.segment(scene, queries)  # embeds the texts
    times = _Clock(segmenter.device)
    plain = times.time("segment, refine=crf", lambda: segmenter.segment(scene, queries))
    sam = times.time("load", lambda: segmenter.refiner.sam(preset))
    for number, rule in enumerate(("sam", "sam-prompt")):
        unseen = np.clip(scene.astype(int) + number + 1, 0, 255).astype(np.uint8)  # nothing of it is remembered
        ruled = segmenter.under(replace(preset, refine=rule))
        times.time(f"segment, refine={rule}", partial(ruled.segment, unseen, queries))
        if rule == "sam":
            proposals = sam.automask(unseen, preset)
    if sam.random and len(proposals) < LEAST:
        raise TooFewProposalsError(
            f"{len(proposals)} proposals from random weights show nothing: at least {LEAST} are needed, so "
            "points_per_side=10 or more."
        )
    times.time("matching", lambda: matched(plain.masks, proposals))
    embedding = times.time("encoder, once per image", lambda: sam.embed(scene))
    box = np.array([0, 0, scene.shape[1], scene.shape[0]])
    times.time("decoder, once per prompt", lambda: sam.prompt(embedding, box=box))
    return Stages(
        preset.sam_model, str(segmenter.device), preset.points_per_side**2, len(proposals), times.wall, times.cpu
    )


class TooFewProposalsError(RuntimeError):
    """Random weights gave so few proposals that nothing was tried."""


class _Clock:
    """Times stages by name, a GPU's work included."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    def time(self, stage: str, work: Callable[[], T]) -> T:
        spent, result = clock(self._device, work)
        self.wall[stage], self.cpu[stage] = spent.wall, spent.cpu
        return result
