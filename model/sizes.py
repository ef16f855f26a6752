"""Changing sizes: what CLIP sees of an image, and how maps get back to its natural size. Sizes are (height, width).

Imports without torch, for the processes that draw masks.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

Image = NDArray[np.uint8]
BAND = 256  # rows of the natural size that are painted at once


def bounded(height: int, width: int, patch: int, most: int) -> tuple[int, int]:
    """Return the largest size of the same shape that has at most `most` patches (0: no bound), never enlarged."""

    def patches(scale: float) -> int:
        return -(-max(1, int(height * scale)) // patch) * -(-max(1, int(width * scale)) // patch)

    if not most or patches(1) <= most:
        return height, width
    scale = min(1.0, (most * patch * patch / (height * width)) ** 0.5)
    while patches(scale) > most:
        scale *= 0.99
    return max(1, int(height * scale)), max(1, int(width * scale))


def resize(picture: Image, height: int, width: int) -> Image:
    """Resize with Pillow's bicubic filter, which smooths when shrinking: CLIP was trained on pictures made so."""
    return np.asarray(Pillow.fromarray(picture).resize((width, height), Pillow.Resampling.BICUBIC))


def enlarge(maps: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize maps [K, h, w] bilinearly to [K, height, width]."""
    out = np.empty((len(maps), height, width), np.float32)
    for target, source in zip(out, maps, strict=True):
        target[:] = cv2.resize(source, (width, height), interpolation=cv2.INTER_LINEAR)
    return out


def shrink(image: Image, height: int, width: int) -> Image:
    """Shrink an image by averaging areas: quick for photos of any size."""
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def paint(marginals: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.uint16]:
    """Return for each pixel of (height, width) the channel of the largest marginal, enlarged bilinearly: [H, W].

    Works in bands of rows, so that memory does not grow with the number of labels times the image.
    """
    height, width = size
    if marginals.shape[1:] == size:
        return np.asarray(marginals.argmax(axis=0), np.uint16)
    down, across = marginals.shape[1] / height, marginals.shape[2] / width
    index = np.zeros(size, np.uint16)
    for top in range(0, height, BAND):
        rows = min(BAND, height - top)
        place = np.array([[across, 0, across / 2 - 0.5], [0, down, (top + 0.5) * down - 0.5]])
        best = np.full((rows, width), -1, np.float32)
        for channel, marginal in enumerate(marginals):
            band = cv2.warpAffine(
                marginal,
                place,
                (width, rows),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            )
            wins = band > best
            index[top : top + rows][wins] = channel
            best[wins] = band[wins]
    return index
