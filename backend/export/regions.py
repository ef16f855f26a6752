"""What of a result is exported: its regions with their labels, as masks (`backend.masks.shapes`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from backend.labeling.config import Picture
from backend.masks import shapes
from backend.masks.shapes import SHAPES, Mask, ShapeError, mask_of

_KINDS = tuple(f"{shape}labels" for shape in SHAPES)


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
    found = [value.get(kind) for kind, value in values if kind in _KINDS and isinstance(value, dict)]
    return [str(label) for labels in found if isinstance(labels, list) for label in labels[:1]]


def size_of(result: Iterable[Mapping[str, Any]]) -> tuple[int, int] | None:
    """The image's (height, width) as the first region that knows it says, else None."""
    for one in result:
        with suppress(ShapeError):
            return shapes.size_of(one)
    return None


def _region(one: Mapping[str, Any], labels: Sequence[str]) -> Region | None:
    kind, value = one.get("type"), one.get("value")
    if not isinstance(kind, str) or kind not in _KINDS or not isinstance(value, dict):
        if isinstance(kind, str) and kind.endswith("labels") and kind != "labels":
            raise RegionError(f"a region is of type {kind!r}; known are {', '.join(_KINDS)}")
        return None
    named = value.get(kind) or []
    if not named:  # drawn, but never given a label
        return None
    if not isinstance(named, list) or len(named) != 1 or named[0] not in labels:
        told = ", ".join(map(str, named)) if isinstance(named, list) else named
        raise RegionError(f"a region is called {told}, which is no label of the labeling config")
    try:
        mask = mask_of(one, *shapes.size_of(one))
    except ShapeError as error:
        raise RegionError(f"a region of type {kind} cannot be read: {error}") from None
    score = one.get("score")
    return Region(named[0], mask, float(score) if isinstance(score, int | float) else None)


def _size(mask: Mask) -> str:
    return f"{mask.shape[1]} x {mask.shape[0]}"
