"""Index masks as pictures: a colour for each label. Imports without torch."""

import colorsys

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

SIZE = 256


def colors(count: int) -> NDArray[np.uint8]:
    """Return [count, 3] RGB: black, then hues a golden section apart, so that neighbours differ."""
    hues = (
        colorsys.hsv_to_rgb(i * 0.61803 % 1, 0.75 if i % 2 else 0.95, 0.95 if i % 3 else 0.7) for i in range(1, count)
    )
    return (np.array([(0, 0, 0), *hues]) * 255).astype(np.uint8)


def index_picture(index: NDArray[np.uint16], labels: int) -> Pillow.Image:
    """Return an index map [H, W] (0 = background, i = i-th label) as a palette picture, of 16 bit beyond 254 labels.

    The last value, 255 or 65,535, stays free: it means "ignore" to those who read such masks.
    """
    if labels >= SIZE - 1:
        return Pillow.fromarray(index)
    picture = Pillow.fromarray(index.astype(np.uint8))
    picture.putpalette(colors(SIZE).tobytes())
    return picture
