"""Two results of one task beside each other: our prediction's masks and the annotation's, label by label.

Regions of one label count as their union. Images of a task, and pages of an image, are compared each by itself; a
label's pixels in all of them count together, as though they were one large picture. A pixel belongs to a region from an
alpha of 128 up: a browser's brush has a soft edge.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.corrections.records import OUTLINE, UNTOUCHED_IOU, Change
from backend.masks import brush

Mask = NDArray[np.bool_]
Region = Mapping[str, Any]

Place = tuple[str, int]
"""An image of a task: the name of its tag, and its page (`item_index`, 0 where it has none)."""

BOUNDARY_SHARE = 0.0075
"""Edges agree where they are no farther apart than this share of the image's diagonal, but at least a pixel."""
_OUTLINE_PARTS = 8


class ComparisonError(ValueError):
    """The regions cannot be compared: unreadable, or of images of different size."""


def compare(predicted: Sequence[Region], submitted: Sequence[Region]) -> tuple[tuple[int, int], tuple[Change, ...]]:
    """Compare the brush regions of two results: (width, height) of an image, and every label that is in one of them.

    Of several images the size is that of the largest, and a label's outlines are from the one where it has most pixels.
    In each image only controls count that the prediction uses, or all if it uses none. One label's masks are in memory
    at a time: 12 megapixels are 12 MB each.

    Raises:
        ComparisonError: a region cannot be read, or the sizes differ.
    """
    ours, theirs = _by_place(predicted), _by_place(submitted)
    sizes, changes = [(0, 0)], defaultdict(list)
    for place in {**ours, **theirs}:
        before = ours.get(place, [])
        controls = {region.get("from_name") for region in before}
        after = [one for one in theirs.get(place, ()) if not controls or one.get("from_name") in controls]
        if before or after:
            sizes.append(_same_size([*before, *after]))
        for change in _changes(_by_label(before), _by_label(after), sizes[-1]):
            changes[change.label].append(change)
    return max(sizes, key=math.prod), tuple(map(_together, changes.values()))


def union_masks(regions: Sequence[Region]) -> dict[Place, dict[str, Mask]]:
    """Every label's mask [H, W] in each image of a result. Raises ComparisonError."""
    return {
        place: {label: _union(found, _same_size(found)) for label, found in _by_label(own).items()}
        for place, own in _by_place(regions).items()
    }


def boundary_f(one: Mask, other: Mask) -> float:
    """How well the edges of two masks [H, W] agree, 0..1.

    The F measure of Martin et al. as it is used for DAVIS: the share of each edge that lies within a tolerance
    (`BOUNDARY_SHARE`) of the other one, precision and recall in their harmonic mean. 0 if only one mask is empty.
    (What evaluations report is `model.benchmarks.boundary`, which counts as DAVIS does to the pixel, and takes twenty
    times as long: two seconds at 12 megapixels.)
    """
    if not one.any() or not other.any():
        return float(not one.any() and not other.any())
    tolerance = max(1.0, BOUNDARY_SHARE * math.hypot(*one.shape))
    first, second = (_edge(mask) for mask in _cropped(one, other, margin=math.ceil(tolerance) + 1))
    precision = float((_distance_to(second)[first] <= tolerance).mean())
    recall = float((_distance_to(first)[second] <= tolerance).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def outline(mask: Mask) -> str:
    """The outline of a mask [H, W] as an SVG path in whole units, `OUTLINE` along the image's longer side."""
    share = OUTLINE / max(mask.shape)
    size = (max(1, round(mask.shape[1] * share)), max(1, round(mask.shape[0] * share)))
    small = cv2.resize(
        mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA if share < 1 else cv2.INTER_NEAREST
    )
    found, _ = cv2.findContours((small > 127).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    parts = sorted(found, key=cv2.contourArea, reverse=True)[:_OUTLINE_PARTS]
    corners = [cv2.approxPolyDP(part, 0.8, True).reshape(-1, 2).tolist() for part in parts]
    return "".join("M" + "L".join(f"{x} {y}" for x, y in part) + "Z" for part in corners)


def _changes(
    before: Mapping[str, Sequence[Region]], after: Mapping[str, Sequence[Region]], size: tuple[int, int]
) -> Iterator[Change]:
    """Every label of one image that is in one of both."""
    for label in dict.fromkeys([*before, *after]):
        change = _change(label, _union(before.get(label, ()), size), _union(after.get(label, ()), size))
        if change.union:
            yield change


def _change(label: str, predicted: Mask, submitted: Mask) -> Change:
    common, union = int((predicted & submitted).sum()), int((predicted | submitted).sum())
    if common >= UNTOUCHED_IOU * union:
        return Change(label, int(predicted.sum()), int(submitted.sum()), common, 1.0)
    outlines = (outline(predicted), outline(submitted))
    return Change(label, int(predicted.sum()), int(submitted.sum()), common, boundary_f(predicted, submitted), outlines)


def _together(changes: Sequence[Change]) -> Change:
    """One label's changes in several images as one: pixels add up, edges count by what they enclose."""
    if len(changes) == 1:
        return changes[0]
    largest = max(changes, key=lambda change: change.union)
    union = sum(change.union for change in changes)
    return Change(
        largest.label,
        sum(change.predicted for change in changes),
        sum(change.submitted for change in changes),
        sum(change.common for change in changes),
        sum(change.boundary_f * change.union for change in changes) / union,
        next((change.outlines for change in (largest, *changes) if any(change.outlines)), ("", "")),
    )


def _by_place(regions: Sequence[Region]) -> dict[Place, list[Region]]:
    """The brush regions, image by image."""
    grouped: dict[Place, list[Region]] = defaultdict(list)
    for region in regions:
        if region.get("type") == "brushlabels":
            grouped[str(region.get("to_name")), int(region.get("item_index") or 0)].append(region)
    return dict(grouped)


def _by_label(regions: Sequence[Region]) -> dict[str, list[Region]]:
    grouped: dict[str, list[Region]] = defaultdict(list)
    for region in regions:
        for label in region.get("value", {}).get("brushlabels", ()):
            grouped[str(label)].append(region)
    return dict(grouped)


def _same_size(regions: Sequence[Region]) -> tuple[int, int]:
    sizes = set(map(_size, regions))
    if len(sizes) > 1:
        raise ComparisonError(f"its regions are of images of different size: {sorted(sizes)}")
    return sizes.pop()


def _size(region: Region) -> tuple[int, int]:
    try:
        return int(region["original_width"]), int(region["original_height"])
    except (KeyError, TypeError, ValueError):
        raise ComparisonError("a brush region does not say of which size its image is") from None


def _union(regions: Sequence[Region], size: tuple[int, int]) -> Mask:
    width, height = size
    mask: Mask = np.zeros((height, width), bool)
    for region in regions:
        try:
            mask |= brush.solid(region["value"]["rle"], height, width)
        except (brush.BrushError, KeyError) as error:
            raise ComparisonError(f"a brush region cannot be read: {error}") from None
    return mask


def _edge(mask: Mask) -> Mask:
    """The pixels of a mask that touch its outside, or the image's border: every mask that is not empty has some."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inner = cv2.erode(mask.astype(np.uint8), cross, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    edge: Mask = mask & (inner == 0)
    return edge


def _distance_to(edge: Mask) -> NDArray[np.float32]:
    """Every pixel's distance to the nearest one of an edge."""
    return np.asarray(cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, 5), np.float32)


def _cropped(one: Mask, other: Mask, margin: int) -> tuple[Mask, Mask]:
    """Both masks, cut to where they are and a margin: a small object in a large image is compared quickly."""
    rows, columns = (np.flatnonzero((one | other).any(axis=axis)) for axis in (1, 0))
    top, left = max(0, int(rows[0]) - margin), max(0, int(columns[0]) - margin)
    window = (slice(top, int(rows[-1]) + margin + 1), slice(left, int(columns[-1]) + margin + 1))
    return one[window], other[window]
