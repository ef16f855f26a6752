"""Two results of one task beside each other: our prediction's masks and the annotation's, label by label.

Brushes, bitmasks, polygons, rectangles and ellipses are compared as masks. Regions of one label in one control count as
their union. Controls, images of a task, and pages of an image are compared each by itself; a label's pixels in all of
them count together, as though they were one large picture.

Whoever may annotate can send any JSON as a result: what cannot be read raises a ComparisonError.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.corrections.records import OUTLINE, UNTOUCHED_IOU, Change
from backend.masks.shapes import MOST_PIXELS, SHAPES, ShapeError, mask_of, names_in, shape_of, size_of

Mask = NDArray[np.bool_]

Place = tuple[str, int]
"""An image of a task: the name of its tag, and its page (`item_index`, 0 where it has none)."""

BOUNDARY_SHARE = 0.0075
"""Edges agree where they are no farther apart than this share of the image's diagonal, but at least a pixel."""
_OUTLINE_PARTS = 8


class ComparisonError(ValueError):
    """The regions cannot be compared: unreadable, of a shape that is not known, or of images of different size."""


@dataclass(frozen=True)
class Drawn:
    """A region of a result that becomes a mask: where it is, by which control it was drawn, and its labels."""

    place: Place
    control: str
    shape: str
    labels: tuple[str, ...]
    region: Mapping[str, Any]


def compare(
    predicted: object, submitted: object, most_pixels: int = MOST_PIXELS
) -> tuple[tuple[int, int], tuple[Change, ...]]:
    """Compare the regions of two results: (width, height) of an image, and every label that is in one of them.

    Of several images the size is that of the largest, and a label's outlines are from the one where it has most pixels.
    In each image only controls count that the prediction uses, or all if it uses none. Without any change both are
    empty. One label's masks are in memory at a time: 12 megapixels are 12 MB each.

    Raises:
        ComparisonError: a region cannot be read or covers no pixel, the sizes differ, or an image has more pixels than
            `most_pixels`.
    """
    ours, theirs = _drawn(predicted), _drawn(submitted)
    _refuse_other_shapes(predicted, submitted, {one.control for one in ours})
    sizes, changes = [(0, 0)], defaultdict(list)
    for place in dict.fromkeys(one.place for one in (*ours, *theirs)):
        before = [one for one in ours if one.place == place]
        controls = {one.control for one in before}
        after = [one for one in theirs if one.place == place and (not controls or one.control in controls)]
        if before or after:
            sizes.append(_same_size([*before, *after], most_pixels))
        for control in dict.fromkeys(one.control for one in (*before, *after)):
            for change in _changes(_by_label(before, control), _by_label(after, control), sizes[-1]):
                changes[change.label].append(change)
    if not changes and len(sizes) > 1:
        raise ComparisonError("its regions cover no pixel, or have no label")
    return max(sizes, key=math.prod), tuple(map(_together, changes.values()))


def union_masks(result: object, most_pixels: int = MOST_PIXELS) -> dict[Place, dict[str, Mask]]:
    """Every label's mask [H, W] in each image of a result.

    Where a label was drawn with several shapes, only the most exact ones count: not the box around a brush's mask, too.

    Raises ComparisonError.
    """
    found: dict[Place, dict[str, Mask]] = {}
    drawn = _drawn(result)
    for place in dict.fromkeys(one.place for one in drawn):
        there = [one for one in drawn if one.place == place]
        size = _same_size(there, most_pixels)
        found[place] = {label: _union(_most_exact(own), size) for label, own in _by_label(there).items()}
    return found


def boundary_f(one: Mask, other: Mask) -> float:
    """How well the edges of two masks [H, W] agree, 0..1; at least one of them must have a pixel.

    The F measure of Martin et al. as it is used for DAVIS: the share of each edge that lies within a tolerance
    (`BOUNDARY_SHARE`) of the other one, precision and recall in their harmonic mean. 0 if only one mask is empty.
    (What evaluations report is `model.benchmarks.boundary`, which counts as DAVIS does to the pixel, and takes twenty
    times as long: two seconds at 12 megapixels.)
    """
    if not one.any() or not other.any():
        return 0.0
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
    before: Mapping[str, Sequence[Drawn]], after: Mapping[str, Sequence[Drawn]], size: tuple[int, int]
) -> Iterator[Change]:
    """Every label of one control in one image that has pixels in one of both."""
    for label in dict.fromkeys([*before, *after]):
        predicted, submitted = (_union(regions.get(label, ()), size) for regions in (before, after))
        if predicted.any() or submitted.any():
            yield _change(label, predicted, submitted)


def _change(label: str, predicted: Mask, submitted: Mask) -> Change:
    common, union = int((predicted & submitted).sum()), int((predicted | submitted).sum())
    if common >= UNTOUCHED_IOU * union:
        return Change(label, int(predicted.sum()), int(submitted.sum()), common, 1.0)
    outlines = (outline(predicted), outline(submitted))
    return Change(label, int(predicted.sum()), int(submitted.sum()), common, boundary_f(predicted, submitted), outlines)


def _together(changes: Sequence[Change]) -> Change:
    """One label's changes in several images and controls as one: pixels add up, edges count by what they enclose."""
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


def _entries(result: object) -> list[Mapping[str, Any]]:
    """A result as a list of objects with a type; None is an empty one."""
    if result is None:
        return []
    if not isinstance(result, list):
        raise ComparisonError("its result is not a list")
    for one in result:
        if not isinstance(one, dict) or not isinstance(one.get("type"), str):
            raise ComparisonError("its result holds something that is no region: an object without a type")
    return result


def _drawn(result: object) -> list[Drawn]:
    """The regions of a result that become masks; choices, texts, relations and other shapes are left out."""
    entries = _entries(result)
    # <Labels> beside <Rectangle> and the like: the label is a second entry with the region's id.
    apart = {str(one.get("id")): one.get("value") for one in entries if one["type"] == "labels"}
    found = []
    for one in entries:
        shape = shape_of(one)
        if shape is None:
            continue
        value = one.get("value") if one["type"].endswith("labels") else apart.get(str(one.get("id")), {})
        name = one["type"] if one["type"].endswith("labels") else "labels"
        try:
            if not isinstance(value, dict):
                raise ShapeError("it has no value")
            found.append(Drawn(_place(one), _name(one, "from_name"), shape, names_in(value.get(name)), one))
        except ShapeError as error:
            raise _unreadable(one, error) from None
    return found


def _place(region: Mapping[str, Any]) -> Place:
    page = region.get("item_index")
    if page is None:
        page = 0
    if isinstance(page, bool) or not isinstance(page, int):
        raise ShapeError("its item_index is not a whole number")
    return _name(region, "to_name"), page


def _name(region: Mapping[str, Any], key: str) -> str:
    name = region.get(key)
    if not isinstance(name, str):
        raise ShapeError(f"its {key} is not a name")
    return name


def _refuse_other_shapes(predicted: object, submitted: object, controls: set[str]) -> None:
    """Raise ComparisonError for what is no known shape, in the prediction or in a control that the prediction uses."""
    others = [one for one in _entries(predicted) if shape_of(one) is None]
    others += [one for one in _entries(submitted) if shape_of(one) is None and one.get("from_name") in list(controls)]
    for one in others:
        raise ComparisonError(f"a region of type {one['type']!r} is none of the shapes {', '.join(SHAPES)}")


def _by_label(regions: Sequence[Drawn], control: str | None = None) -> dict[str, list[Drawn]]:
    """The regions of a control, or of all, by each of their labels."""
    grouped: dict[str, list[Drawn]] = defaultdict(list)
    for one in regions:
        for label in one.labels if control in (None, one.control) else ():
            grouped[label].append(one)
    return dict(grouped)


def _most_exact(regions: Sequence[Drawn]) -> list[Drawn]:
    """Those drawn with a brush or a bitmask; without any those of the next shape of `SHAPES`."""
    ranks = {shape: max(rank, 1) for rank, shape in enumerate(SHAPES)}
    best = min(ranks[one.shape] for one in regions)
    return [one for one in regions if ranks[one.shape] == best]


def _same_size(regions: Sequence[Drawn], most_pixels: int) -> tuple[int, int]:
    """(width, height) of the image that all of these are on."""
    sizes = set()
    for one in regions:
        try:
            sizes.add(size_of(one.region, most_pixels)[::-1])
        except ShapeError as error:
            raise _unreadable(one.region, error) from None
    if len(sizes) > 1:
        raise ComparisonError(f"its regions are of images of different size: {sorted(sizes)[:3]}")
    return sizes.pop()


def _union(regions: Sequence[Drawn], size: tuple[int, int]) -> Mask:
    width, height = size
    mask: Mask = np.zeros((height, width), bool)
    for one in regions:
        try:
            mask |= mask_of(one.region, height, width)
        except ShapeError as error:
            raise _unreadable(one.region, error) from None
    return mask


def _unreadable(region: Mapping[str, Any], error: ShapeError) -> ComparisonError:
    return ComparisonError(f"a region of type {region['type']!r} cannot be read: {error}")


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
