"""Masks -> what Label Studio stores: brush regions, polygons and rectangles, one per label or one per object."""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from backend.labeling.config import Control, ImageTag, Picture
from backend.masks import brush
from backend.masks.outlines import outlines
from backend.queue.job import Job

Mask = npt.NDArray[np.bool_]
Region = dict[str, Any]

MOST_PARTS = 8
"""Regions that one label may have in one control: more of them are slower to correct than to draw."""
SAME = 0.5
"""IoU of two masks of one label from which an answer takes the place of the one that is there."""
TOLERANCE = 0.001
"""Share of the image's longer side that a polygon may be off, at least one pixel."""


class Found(Protocol):
    """What is needed of a `model.segmenter.Segmentation`, which would bring torch along."""

    @property
    def labels(self) -> Sequence[str]:
        """K labels."""

    @property
    def masks(self) -> Mask:
        """[K, H, W], none empty."""

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """[K], 0..1."""


def prediction(job: Job, regions: Sequence[Region], scores: npt.NDArray[np.float32]) -> dict[str, Any]:
    """The prediction for a task: the regions of all its images. Its score is the mean of `scores`, of labels found."""
    score = float(np.mean(scores)) if regions else 0.0
    return {"result": list(regions), "score": score, "model_version": job.version}


def regions_of(job: Job, picture: Picture, found: Found) -> list[Region]:
    """The regions of one image of a task, in all controls that point to it."""
    image = job.config.image(picture.tag)
    regions = [region for control in _controls(job, image) for region in _regions(job, image, control, picture, found)]
    # Label Studio 1.23 draws a region on the page that it names.
    return regions if picture.page is None else [{**region, "item_index": picture.page} for region in regions]


def _taken(job: Job, mask: Mask) -> str | None:
    """The id of the region in the task that an annotator's answer [H, W] replaces: one that is much the same."""
    for there in job.ask.present if job.ask else ():
        with suppress(brush.BrushError):  # of an image that was of another size then
            known = brush.solid(list(base64.b64decode(there.rle)), *mask.shape)
            if (known & mask).sum() > SAME * (known | mask).sum():
                return there.id
    return None


def _controls(job: Job, image: ImageTag) -> tuple[Control, ...]:
    """The controls of an image that are filled: all; an annotator's answer goes to one, a brush if there is one."""
    if job.ask is None:
        return image.controls
    able = [control for control in image.controls if job.ask.label in image.names(control)]
    return tuple(sorted(able, key=lambda control: control.kind != "brush")[:1])


def region_id(job: Job, picture: Picture, control: str, label: str, part: int = 0) -> str:
    """Sixteen hex digits, the same in every run: eight for the image (see `backend.provenance`), eight for the region.

    They stay the same while an annotator adds points: the editor replaces an accepted region of the same id.
    """
    parts = [job.task, job.version, control, label, part, *([] if picture.page is None else [picture.page])]
    parts += [job.ask.series] if job.ask else []
    return picture.digest + hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:8]


def _regions(job: Job, image: ImageTag, control: Control, picture: Picture, found: Found) -> Iterator[Region]:
    names = image.names(control)
    numbers: defaultdict[str, Iterator[int]] = defaultdict(count)  # a label has a region for each box drawn
    for label, mask, score in zip(found.labels, found.masks, found.scores, strict=True):
        if label not in names:
            continue
        pieces = parts(mask) if control.instances == "components" else [mask]
        common = (names[label], control.from_name, image.name, float(score))
        ids = (region_id(job, picture, control.from_name, label, part) for part in numbers[label])
        if control.kind == "brush":
            yield from (brush.region(piece, *common, _taken(job, piece) or next(ids)) for piece in pieces)
        elif control.kind == "rectangle":
            yield from (
                brush.described("rectanglelabels", rectangle(piece), mask, *common, next(ids)) for piece in pieces
            )
        else:
            yield from (brush.described("polygonlabels", value, mask, *common, next(ids)) for value in polygons(mask))


def parts(mask: Mask) -> list[Mask]:
    """The parts of a mask [H, W], which do not touch even at corners, by size; the last of `MOST_PARTS` is the rest."""
    found, labelled, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    order = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")
    rank = np.zeros(found, np.int32)
    rank[order] = np.minimum(np.arange(1, found), MOST_PARTS)
    ranked = rank[labelled]
    return [ranked == number for number in range(1, min(found - 1, MOST_PARTS) + 1)]


def rectangle(mask: Mask) -> dict[str, Any]:
    """The box around a mask [H, W]."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return {
        "x": 100 * int(columns[0]) / width,
        "y": 100 * int(rows[0]) / height,
        "width": 100 * int(columns[-1] - columns[0] + 1) / width,
        "height": 100 * int(rows[-1] - rows[0] + 1) / height,
        "rotation": 0,
    }


def polygons(mask: Mask) -> Iterator[dict[str, Any]]:
    """A polygon for each part of a mask [H, W], the largest `MOST_PARTS`, holes cut in.

    It runs through the centres of the outermost pixels and is at most `TOLERANCE` off them. Parts without an inside,
    lines of single pixels, are no polygons.
    """
    height, width = mask.shape
    found = outlines(mask, max(1.0, TOLERANCE * max(height, width)))
    whole = [outline for outline in found if len(outline) > 2]
    whole.sort(key=lambda outline: -cv2.contourArea(outline))
    for outline in whole[:MOST_PARTS]:
        points = 100 * (outline + 0.5) / [width, height]
        yield {"points": points.round(4).tolist(), "closed": True}
