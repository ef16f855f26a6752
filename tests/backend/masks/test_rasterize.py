"""Outlines as masks: which pixels belong, and how much work an outline may ask for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.draw import polygon2mask

from backend.masks import rasterize as module
from backend.masks.outlines import outlines
from backend.masks.rasterize import TOUCHING, rasterize


def drawn(height: int, width: int, *points: tuple[float, float]) -> list[str]:
    mask = rasterize(np.array(points, float), height, width)
    return ["".join(".#"[int(pixel)] for pixel in row) for row in mask]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1, 1), (3, 1), (3, 3), (1, 3)], ["....", ".##.", ".##.", "...."]),
        ([(1.5, 1.5), (2.5, 1.5), (2.5, 2.5), (1.5, 2.5)], ["....", ".##.", ".##.", "...."]),  # through the centres
        ([(-5, -5), (2, -5), (2, 2), (-5, 2)], ["##..", "##..", "....", "...."]),  # partly outside
        ([(0, 0), (4, 0), (0, 4)], ["####", "###.", "##..", "#..."]),
        ([(9, 9), (12, 9), (12, 12)], ["....", "....", "....", "...."]),
        ([(0.1, 0.1), (0.2, 0.1), (0.1, 0.2)], ["....", "....", "....", "...."]),  # between the centres
        # A square with a hole in it, and a way to it and back.
        (
            [(0, 0), (4, 0), (4, 4), (0, 4), (0, 0), (1, 1), (1, 3), (3, 3), (3, 1), (1, 1)],
            ["####", "#..#", "#..#", "####"],
        ),
    ],
)
def test_a_pixel_belongs_to_an_outline_that_holds_its_centre(
    points: list[tuple[float, float]], expected: list[str]
) -> None:
    assert drawn(4, 4, *points) == expected


def distance(point: npt.NDArray[np.float64], outline: npt.NDArray[np.float64]) -> float:
    """How far a point is from a closed outline [N, 2]."""
    edges = np.roll(outline, -1, axis=0) - outline
    lengths = np.maximum((edges**2).sum(axis=1), 1e-12)
    along = np.clip(((point - outline) * edges).sum(axis=1) / lengths, 0, 1)
    return float(np.linalg.norm(outline + along[:, None] * edges - point, axis=1).min())


@given(st.integers(0, 2**32 - 1), st.integers(3, 8))
def test_as_scikit_image_draws_it(seed: int, count: int) -> None:
    """Points at the centres of pixels, in and around the image."""
    points = np.random.default_rng(seed).integers(-3, 25, (count, 2)) + 0.5
    theirs = polygon2mask((18, 20), points[:, ::-1] - 0.5)
    ours = rasterize(points, 18, 20)
    assert not (theirs & ~ours).any()
    for row, column in np.argwhere(ours & ~theirs):
        assert distance(np.array([column, row]) + 0.5, points) <= 1.5 * TOUCHING, "our polygons run through centres"


def test_digits_that_a_browser_drops_change_nothing() -> None:
    mask = np.zeros((60, 80), bool)
    mask[10:40, 20:70] = True
    mask[15:30, 30:50] = False
    (outline,) = outlines(mask)
    noise = np.random.default_rng(0).normal(scale=1e-5, size=outline.shape)
    assert (rasterize(outline + 0.5 + noise, 60, 80) == mask).all()


@pytest.mark.parametrize("points", [[(0, 0), (1, 1)], [(0, 0), (1, 1), (np.nan, 2)], [(0, 0), (1, 1), (np.inf, 2)]])
def test_what_is_no_outline_is_refused(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="three points"):
        drawn(4, 4, *points)


def test_an_outline_that_goes_up_and_down_for_ever_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CROSSINGS", 1000)
    comb = [(x / 10, 200 * (x % 2)) for x in range(100)]
    with pytest.raises(ValueError, match="up and down too often"):
        drawn(200, 10, *comb)


def test_blocks_of_crossings_make_one_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    comb = np.array([(x / 10, 200 * (x % 2)) for x in range(100)])
    whole = rasterize(comb, 200, 10)
    monkeypatch.setattr(module, "_BLOCK", 7)
    assert (rasterize(comb, 200, 10) == whole).all()
