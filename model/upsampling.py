"""Masks drawn on a reduced image, brought back to natural size along the image's own edges.

A guided filter (He, Sun and Tang 2013; He and Sun 2015, "Fast Guided Filter"): in each small window a marginal is
explained as a linear function of the pixels' colours. The functions are found on the reduced image, and applied to the
colours of the full one: an edge that the reduced image rounds to its pixels lies where the full image has it.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from model.sizes import BAND, shrink

RADIUS = 4  # of a window, in pixels of the reduced image
SMOOTHNESS = 1e-3  # variance of colours (0..1) below which a window counts as one surface


def nearest(marginals: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.uint16]:
    """Return the channel of the largest marginal [C, h, w] for each pixel of (height, width), as it is: [H, W]."""
    index = marginals.argmax(axis=0).astype(np.uint16)
    return np.asarray(cv2.resize(index, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT), np.uint16)


def guided(marginals: NDArray[np.float32], image: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return for each pixel of an image [H, W, 3] the channel of the largest marginal [C, h, w]: [H, W].

    A label is computed only around where it is not zero, the background, channel 0, is what labels leave of one; all in
    bands of rows, so that memory stays bounded.
    """
    height, width = image.shape[:2]
    small_height, small_width = marginals.shape[1:]
    down, across = small_height / height, small_width / width
    guide = Guide(shrink(image, small_height, small_width))
    labels = enumerate(marginals[1:] / marginals.sum(axis=0), 1)
    functions = [(channel, guide.explain(label), _box(label)) for channel, label in labels]
    index = np.zeros((height, width), np.uint16)
    for top in range(0, height, BAND):
        bottom = min(top + BAND, height)
        best = np.full((bottom - top, width), -np.inf, np.float32)
        rest = np.ones_like(best)
        for channel, function, (first, last, left, right) in functions:
            rows = slice(max(top, int(first / down)), min(bottom, int(np.ceil(last / down))))
            columns = slice(int(left / across), min(width, int(np.ceil(right / across))))
            if rows.start >= rows.stop or columns.start >= columns.stop:
                continue
            there = (slice(rows.start - top, rows.stop - top), columns)
            value = _applied(function, image[rows, columns], rows.start, columns.start, down, across)
            wins = value > best[there]
            index[rows, columns][wins] = channel
            best[there][wins] = value[wins]
            rest[there] -= value
        index[top:bottom][rest >= best] = 0
    return index


class Guide:
    """The reduced image [h, w, 3], ready to explain marginals [h, w] by its colours."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        self._colors = _colors(image)
        self._means = _averaged(self._colors)
        pairs = self._colors[..., :, None] * self._colors[..., None, :]
        means = _averaged(pairs.reshape(*image.shape[:2], 9)).reshape(pairs.shape)
        covariance = means - self._means[..., :, None] * self._means[..., None, :]
        self._inverse = np.linalg.inv(covariance + np.float32(SMOOTHNESS) * np.eye(3, dtype=np.float32))

    def explain(self, marginal: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return [h, w, 4]: what to multiply red, green and blue (0..1) with, and what to add, to get the marginal."""
        mean = _averaged(marginal)
        together = _averaged(self._colors * marginal[..., None]) - self._means * mean[..., None]
        slopes = np.einsum("hwij,hwj->hwi", self._inverse, together)
        offset = mean - (slopes * self._means).sum(axis=2)
        return _averaged(np.dstack([slopes, offset]))


def _applied(
    function: NDArray[np.float32], pixels: NDArray[np.uint8], top: int, left: int, down: float, across: float
) -> NDArray[np.float32]:
    """Apply functions of colour [h, w, 4], enlarged, to pixels [H, W, 3] of the full image from (top, left) on."""
    height, width = pixels.shape[:2]
    place = np.array([[across, 0, (left + 0.5) * across - 0.5], [0, down, (top + 0.5) * down - 0.5]])
    near = cv2.warpAffine(
        function,
        place,
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray((near[..., :3] * _colors(pixels)).sum(axis=2) + near[..., 3], np.float32)


def _colors(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(pixels, np.float32) / np.float32(255)


def _averaged(picture: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the mean over each pixel's window, of [h, w] or of each channel of [h, w, c]."""
    side = 2 * RADIUS + 1
    return np.asarray(cv2.blur(picture, (side, side), borderType=cv2.BORDER_REFLECT), np.float32)


def _box(marginal: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """Return the rows and columns (first, last, left, right; ends exclusive) beyond which a marginal explains to 0."""
    there = marginal > 1e-3
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    if not rows.size:
        return 0, 0, 0, 0
    wide = 2 * RADIUS + 1
    height, width = marginal.shape
    return (
        max(0, int(rows[0]) - wide),
        min(height, int(rows[-1]) + 1 + wide),
        max(0, int(columns[0]) - wide),
        min(width, int(columns[-1]) + 1 + wide),
    )
