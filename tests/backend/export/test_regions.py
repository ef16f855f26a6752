"""Regions of Label Studio as masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backend.export.regions import RegionError, regions, size_of
from backend.masks import brush

LABELS = ("cat", "moai")
MASK = np.array([[1, 1, 0, 0], [0, 0, 0, 1]], bool)


def region(kind: str, value: dict[str, Any], label: str | None = "cat", **more: Any) -> dict[str, Any]:
    named = {} if label is None else {kind: [label]}
    return {"type": kind, "original_width": 10, "original_height": 8, "value": {**value, **named}, **more}


def rectangle(**more: Any) -> dict[str, Any]:
    return region("rectanglelabels", {"x": 20, "y": 25, "width": 40, "height": 50, "rotation": 0, **more})


def test_a_brush_stroke_is_its_solid_part() -> None:
    stored = brush.region(MASK, "cat", "mask", "image", 0.7, "a")
    [found] = regions([stored], LABELS)
    assert found.label == "cat"
    assert found.score == 0.7
    assert (found.mask == MASK).all()


def test_a_rectangle_covers_the_pixels_whose_centres_it_covers() -> None:
    [found] = regions([rectangle()], LABELS)
    expected = np.zeros((8, 10), bool)
    expected[2:6, 2:6] = True
    assert (found.mask == expected).all()


def test_a_rectangle_turns_clockwise_around_its_upper_left_corner() -> None:
    # 4 x 4 pixels at (6, 2), a quarter turn: what was right of the corner is below it, what was below is left of it.
    [found] = regions([rectangle(x=60, rotation=90)], LABELS)
    expected = np.zeros((8, 10), bool)
    expected[2:6, 2:6] = True
    assert (found.mask == expected).all()


def test_a_polygon_and_an_ellipse() -> None:
    triangle = region("polygonlabels", {"points": [[0, 0], [100, 0], [0, 100]]})
    disc = region("ellipselabels", {"x": 50, "y": 50, "radiusX": 40, "radiusY": 50, "rotation": 0}, "moai")
    found = regions([triangle, disc], LABELS)
    assert [one.label for one in found] == ["cat", "moai"]
    assert found[0].mask.sum() == pytest.approx(40, abs=4)
    assert found[0].mask[0, 0]
    assert not found[0].mask[7, 9]
    assert found[1].mask.sum() == pytest.approx(np.pi * 4 * 4, abs=3)
    assert (found[1].mask == found[1].mask[::-1, ::-1]).all()


@pytest.mark.parametrize(
    "left_out",
    [
        pytest.param({"type": "choices", "value": {"choices": ["good"]}}, id="a choice for the image"),
        pytest.param({"type": "relation", "from_id": "a", "to_id": "b"}, id="a relation"),
        pytest.param({"type": "labels", "value": {"labels": ["person"], "start": 0}}, id="a span of text"),
        pytest.param(region("rectanglelabels", {}, label=None), id="drawn without a label"),
        pytest.param(rectangle(width=0), id="nothing in it"),
    ],
)
def test_what_is_no_region_is_left_out(left_out: dict[str, Any]) -> None:
    assert [one.label for one in regions([left_out, rectangle()], LABELS)] == ["cat"]


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (region("rectanglelabels", {"x": 1}, "dog"), "dog, which is no label"),
        (region("rectanglelabels", {"x": 1}), "its y is not a number"),
        (region("polygonlabels", {"points": [[0, 0], [1, 1]]}), "three points"),
        (region("polygonlabels", {"points": [[0, 0], [1, 1], [None, 2]]}), "cannot be read"),
        (region("polygonlabels", {"points": [[0, 0], [1, 1], [float("inf"), 2]]}), "three points"),
        (region("rectanglelabels", {"x": 1}, original_width=10**6, original_height=10**6), "more than the 178,956,970"),
        (region("brushlabels", {"rle": [1, 2, 3]}), "cannot be read: brush RLE begins with 7 bytes"),
        (region("keypointlabels", {"x": 1, "y": 1}), "type 'keypointlabels'; known are brushlabels, bitmasklabels"),
        (region("brushlabels", {}), "has no rle"),
        ({**rectangle(), "original_width": None}, "how large its image is"),
        ({**rectangle(), "original_width": 20}, "two sizes, 10 x 8 and 20 x 8"),
    ],
)
def test_what_is_broken_says_so(broken: dict[str, Any], error: str) -> None:
    with pytest.raises(RegionError, match=error):
        regions([rectangle(), broken], LABELS)


def test_the_size_is_that_of_the_first_region_that_knows_it() -> None:
    assert size_of([{"type": "choices"}, rectangle()]) == (8, 10)
    assert size_of([{"type": "choices"}]) is None
