"""Outlines -> masks, by the even-odd rule, in memory that the image bounds: anybody may have sent an outline."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]

TOUCHING = 0.01
"""Pixels that a centre may lie outside and still belong to the outline: our polygons run through pixel centres."""
MOST_CROSSINGS = 20_000_000
"""Rows that an outline may cross, each of its edges counted: seconds of work, and far beyond what anybody draws."""
_BLOCK = 1 << 18  # crossings computed at once


def rasterize(outline: Points, height: int, width: int) -> Mask:
    """Return the mask [H, W] of a closed outline [N, 2] of (x, y) in pixels; the last point is joined to the first.

    A pixel belongs to it when its centre is inside or on the outline (`TOUCHING`).

    Raises:
        ValueError: fewer than three points, a point that is not finite, or an outline of too many long edges.
    """
    if outline.ndim != 2 or outline.shape[1] != 2 or len(outline) < 3 or not np.isfinite(outline).all():
        raise ValueError("an outline needs three points (x, y) or more")
    mask: Mask = np.zeros((height, width), bool)
    first, last = np.floor(outline.min(axis=0) - 1), np.ceil(outline.max(axis=0) + 1)
    left, top = (max(0, int(value)) for value in first)
    right, bottom = min(width, int(last[0])), min(height, int(last[1]))
    if left < right and top < bottom:
        window = mask[top:bottom, left:right]
        for shift in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            moved = outline - (left, top) + TOUCHING * np.array(shift)
            window |= _inside(moved, *window.shape)
        _mark_corners(outline, mask)
    return mask


def _mark_corners(outline: Points, mask: Mask) -> None:
    """Put the pixels into a mask [H, W] whose centres are points of the outline: sharp corners end there."""
    nearest = np.rint(outline - 0.5)
    touched = (np.abs(outline - 0.5 - nearest) <= TOUCHING).all(axis=1)
    touched &= ((nearest >= 0) & (nearest < mask.shape[::-1])).all(axis=1)
    columns, rows = nearest[touched].astype(np.int64).T
    mask[rows, columns] = True


def _inside(outline: Points, height: int, width: int) -> Mask:
    """The pixels [H, W] whose centres are inside: each edge toggles all to the right of where it crosses a row."""
    points, following = outline - 0.5, np.roll(outline, -1, axis=0) - 0.5
    upwards = (points[:, 1] > following[:, 1])[:, None]  # one direction for all, so that a way there and back cancels
    (x, y), (x_end, y_end) = np.where(upwards, following, points).T, np.where(upwards, points, following).T
    first, last = (np.clip(np.ceil(ends), 0, height).astype(np.int64) for ends in (y, y_end))
    ends = np.cumsum(last - first)
    if ends[-1] > MOST_CROSSINGS:
        raise ValueError(f"the outline has {len(outline)} points and goes up and down too often")
    toggles = np.zeros((height, width + 1), np.uint8)  # counted modulo 256: only odd or even matters
    for at in range(0, int(ends[-1]), _BLOCK):
        number = np.arange(at, min(at + _BLOCK, int(ends[-1])))
        edge = np.searchsorted(ends, number, side="right")
        row = last[edge] - (ends[edge] - number)
        share = (row - y[edge]) / (y_end[edge] - y[edge])
        crossing = x[edge] + share * (x_end[edge] - x[edge])
        column = np.clip(np.ceil(crossing), 0, width).astype(np.int64)
        np.add.at(toggles.reshape(-1), row * (width + 1) + column, np.uint8(1))
    np.cumsum(toggles, axis=1, dtype=np.uint8, out=toggles)
    toggles &= 1
    return toggles[:, :width].view(bool)
