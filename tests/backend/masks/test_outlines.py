"""Masks as outlines and back."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from backend.masks.outlines import fill, outlines


def mask(*rows: str) -> npt.NDArray[np.bool_]:
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def again(drawn: npt.NDArray[np.bool_], tolerance: float = 0.0) -> npt.NDArray[np.bool_]:
    whole = np.zeros_like(drawn)
    for outline in outlines(drawn, tolerance):
        whole |= fill(outline, *drawn.shape)
    return whole


def test_a_rectangle_is_the_ring_of_its_outermost_pixels() -> None:
    [outline] = outlines(mask("....", ".##.", ".##.", "...."))
    assert {tuple(point) for point in outline.tolist()} == {(1, 1), (2, 1), (2, 2), (1, 2)}


@pytest.mark.parametrize(
    ("drawn", "parts"),
    [
        pytest.param(mask("...", "...", "..."), 0, id="nothing"),
        pytest.param(mask("#..", "...", "..."), 1, id="a pixel"),
        pytest.param(mask("###", "...", "..."), 1, id="a line"),
        pytest.param(mask("#..", ".#.", "..#"), 1, id="pixels that touch at corners"),
        pytest.param(mask("#.#", "#.#", "#.#"), 2, id="two parts"),
        pytest.param(mask("###", "#.#", "###"), 1, id="a ring"),
        pytest.param(mask("#####", "#.#.#", "#####"), 1, id="two holes and a wall of one pixel"),
        pytest.param(mask("#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.....#", "#######"), 2, id="nested"),
    ],
)
def test_outlines_are_the_mask(drawn: npt.NDArray[np.bool_], parts: int) -> None:
    assert len(outlines(drawn)) == parts
    assert (again(drawn) == drawn).all()


@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_whatever_was_drawn_comes_back(drawn: npt.NDArray[np.bool_]) -> None:
    missed = again(drawn) != drawn
    # An oblique way into a hole may pass through a corner of it.
    assert not (missed & drawn).any()
    assert missed.sum() <= max(1, drawn.size // 20)


@pytest.mark.parametrize("tolerance", [0.5, 1.0, 2.0])
def test_a_tolerance_saves_points_and_moves_borders_by_no_more(tolerance: float) -> None:
    rows, columns = np.mgrid[:200, :200]
    distance = np.hypot(rows - 100, columns - 100)
    ring = (distance < 80) & (distance > 30)
    assert sum(map(len, outlines(ring, tolerance))) < sum(map(len, outlines(ring))) / 3
    missed = (again(ring, tolerance) != ring).astype(np.uint8)
    edge = cv2.morphologyEx(ring.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3)))
    off = cv2.distanceTransform((edge == 0).astype(np.uint8), cv2.DIST_L2, 5)
    assert off[missed > 0].max(initial=0) <= tolerance + 1
