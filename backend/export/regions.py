"""Regions of Label Studio -> masks: brush strokes, polygons, rectangles and ellipses, at the size of their image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from backend.labeling.config import Picture
from backend.masks import brush

Mask = npt.NDArray[np.bool_]


class RegionError(ValueError):
    """A result that cannot become masks; the message says which and why."""


@dataclass(frozen=True)
class Region:
    """One labelled object: its name in the labeling config, its mask bool [H, W], never empty, and a score or None."""

    label: str
    mask: Mask
    score: float | None = None


def regions(result: Iterable[Mapping[str, Any]], labels: Sequence[str]) -> list[Region]:
    """Turn an annotation's or a prediction's `result` into regions, in its order; those drawn empty are left out.

    Label Studio puts the size of the image into every region, and all coordinates but a brush's are per cent of it.
    What carries no label (choices, texts, relations) is not a region.

    Raises:
        RegionError: a region is broken, has a label that is not one of `labels`, a shape unknown here, or another size
            than the one before.
    """
    found: list[Region] = []
    for one in result:
        region = _region(one, labels)
        if region is None:
            continue
        if found and region.mask.shape != found[0].mask.shape:
            raise RegionError(f"regions are of images of two sizes, {_size(found[0].mask)} and {_size(region.mask)}")
        if region.mask.any():
            found.append(region)
    return found


def regions_at(result: Iterable[Mapping[str, Any]], picture: Picture) -> list[Mapping[str, Any]]:
    """What of a result belongs to one of a task's images: its tag's, and of an image with pages that page's."""
    return [one for one in result if place_of(one) == (picture.tag, picture.page or 0)]


def place_of(one: Mapping[str, Any]) -> tuple[str, int]:
    """The image that a region is on: the name of its tag, and its page (0 where it has none)."""
    page = one.get("item_index")
    return str(one.get("to_name")), page if isinstance(page, int) else 0


def labels_in(result: Iterable[Mapping[str, Any]]) -> list[str]:
    """The labels of a result's regions, in their order."""
    values = [(one.get("type"), one.get("value")) for one in result]
    found = [value.get(kind) for kind, value in values if kind in _SHAPES and isinstance(value, dict)]
    return [str(label) for labels in found if isinstance(labels, list) for label in labels[:1]]


def size_of(result: Iterable[Mapping[str, Any]]) -> tuple[int, int] | None:
    """The image's (height, width) as the first region that knows it says, else None."""
    for one in result:
        height, width = one.get("original_height"), one.get("original_width")
        if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
            return height, width
    return None


def _region(one: Mapping[str, Any], labels: Sequence[str]) -> Region | None:
    kind, value = one.get("type"), one.get("value")
    if not isinstance(kind, str) or kind not in _SHAPES or not isinstance(value, dict):
        if isinstance(kind, str) and kind.endswith("labels") and kind != "labels":
            raise RegionError(f"a region is of type {kind!r}; known are {', '.join(_SHAPES)}")
        return None
    named = value.get(kind) or []
    if not named:  # drawn, but never given a label
        return None
    if len(named) != 1 or named[0] not in labels:
        raise RegionError(f"a region is called {', '.join(map(str, named))}, which is no label of the labeling config")
    size = size_of([one])
    if size is None:
        raise RegionError("a region does not say how large its image is (original_width, original_height)")
    try:
        mask = _SHAPES[kind](value, *size)
    except (brush.BrushError, KeyError, TypeError, ValueError) as error:
        raise RegionError(f"a region of type {kind} cannot be read: {error!r}") from None
    score = one.get("score")
    return Region(named[0], mask, float(score) if isinstance(score, int | float) else None)


def _brush(value: Mapping[str, Any], height: int, width: int) -> Mask:
    return brush.solid(value["rle"], height, width)


def _polygon(value: Mapping[str, Any], height: int, width: int) -> Mask:
    return _filled(np.array(value["points"], np.float64) * [width, height] / 100, height, width)


def _rectangle(value: Mapping[str, Any], height: int, width: int) -> Mask:
    # Label Studio turns a rectangle around its upper left corner, clockwise, by degrees.
    corner = np.array([value["x"] * width, value["y"] * height]) / 100
    sides = np.array([value["width"] * width, value["height"] * height]) / 100
    outline = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * sides
    return _filled(corner + _turned(outline, value.get("rotation") or 0), height, width)


def _ellipse(value: Mapping[str, Any], height: int, width: int) -> Mask:
    center = np.array([value["x"] * width, value["y"] * height]) / 100
    radii = np.array([value["radiusX"] * width, value["radiusY"] * height]) / 100
    angles = np.linspace(0, 2 * np.pi, 181)[:-1]
    outline = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii
    return _filled(center + _turned(outline, value.get("rotation") or 0), height, width)


_SHAPES: Mapping[str, Callable[[Mapping[str, Any], int, int], Mask]] = {
    "brushlabels": _brush,
    "polygonlabels": _polygon,
    "rectanglelabels": _rectangle,
    "ellipselabels": _ellipse,
}


def _turned(points: npt.NDArray[np.float64], degrees: float) -> npt.NDArray[np.float64]:
    angle = np.radians(degrees)
    turned: npt.NDArray[np.float64] = points @ [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    return turned


def _filled(outline: npt.NDArray[np.float64], height: int, width: int) -> Mask:
    """Fill an outline [N, 2] of (x, y) in pixels: a pixel belongs to it when its centre is inside."""
    from skimage.draw import polygon2mask  # slow to import, and rarely needed

    if outline.ndim != 2 or outline.shape[1] != 2 or len(outline) < 3 or not np.isfinite(outline).all():
        raise ValueError("an outline needs three points (x, y) or more")
    mask: Mask = polygon2mask((height, width), outline[:, ::-1] - 0.5)  # type: ignore[no-untyped-call]
    return mask


def _size(mask: Mask) -> str:
    return f"{mask.shape[1]} x {mask.shape[0]}"
