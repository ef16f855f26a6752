"""Two results of one task beside each other: our prediction's masks and the annotation's, label by label.

Regions of one label count as their union. A pixel belongs to a region from an alpha of 128 up: a browser's brush has a
soft edge.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.corrections.records import OUTLINE, UNTOUCHED_IOU, Change
from backend.masks import brush

Mask = NDArray[np.bool_]
Region = Mapping[str, Any]

BOUNDARY_SHARE = 0.0075
"""Edges agree where they are no farther apart than this share of the image's diagonal, but at least a pixel."""
_OUTLINE_PARTS = 8


class ComparisonError(ValueError):
    """The regions cannot be compared: unreadable, or of images of different size."""


def compare(predicted: Sequence[Region], submitted: Sequence[Region]) -> tuple[tuple[int, int], tuple[Change, ...]]:
    """Compare the brush regions of two results: (width, height) of the image, and every label that is in one of them.

    Only controls count that the prediction uses, or the annotation if the prediction is empty. One label's masks are
    in memory at a time: 12 megapixels are 12 MB each.

    Raises:
        ComparisonError: a region cannot be read, or the sizes differ.
    """
    controls = {region.get("from_name") for region in _brushes(predicted)}
    ours, theirs = _by_label(predicted, controls), _by_label(submitted, controls)
    sizes = {size for regions in (*ours.values(), *theirs.values()) for size in map(_size, regions)}
    if len(sizes) > 1:
        raise ComparisonError(f"its regions are of images of different size: {sorted(sizes)}")
    if not sizes:
        return (0, 0), ()
    (size,) = sizes
    labels = dict.fromkeys([*ours, *theirs])
    changes = [
        _change(label, _union(ours.get(label, ()), size), _union(theirs.get(label, ()), size)) for label in labels
    ]
    return size, tuple(change for change in changes if change.union)


def union_masks(regions: Sequence[Region]) -> dict[str, Mask]:
    """Every label's mask [H, W] of a result. Raises ComparisonError."""
    grouped = _by_label(regions, set())
    return {label: _union(found, _size(found[0])) for label, found in grouped.items()}


def boundary_f(one: Mask, other: Mask) -> float:
    """How well the edges of two masks [H, W] agree, 0..1.

    The F measure of Martin et al. as it is used for DAVIS: the share of each edge that lies within a tolerance
    (`BOUNDARY_SHARE`) of the other one, precision and recall in their harmonic mean. 0 if only one mask is empty.
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


def _change(label: str, predicted: Mask, submitted: Mask) -> Change:
    common, union = int((predicted & submitted).sum()), int((predicted | submitted).sum())
    if common >= UNTOUCHED_IOU * union:
        return Change(label, int(predicted.sum()), int(submitted.sum()), common, 1.0)
    outlines = (outline(predicted), outline(submitted))
    return Change(label, int(predicted.sum()), int(submitted.sum()), common, boundary_f(predicted, submitted), outlines)


def _brushes(regions: Sequence[Region]) -> list[Region]:
    return [region for region in regions if region.get("type") == "brushlabels"]


def _by_label(regions: Sequence[Region], controls: set[Any]) -> dict[str, list[Region]]:
    grouped: dict[str, list[Region]] = defaultdict(list)
    for region in _brushes(regions):
        if controls and region.get("from_name") not in controls:
            continue
        for label in region.get("value", {}).get("brushlabels", ()):
            grouped[str(label)].append(region)
    return dict(grouped)


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
