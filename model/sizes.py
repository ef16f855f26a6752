"""Changing sizes: what CLIP sees of an image, and how maps get back to its natural size. Sizes are (height, width)."""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from model.prompts import Image, Mask

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


def center_crop(picture: Image, size: int) -> Image:
    """Scale the shorter side to `size` and cut the middle square out, as OpenAI's preprocessing does."""
    height, width = picture.shape[:2]
    short = min(height, width)
    small = resize(picture, int(size * height / short), int(size * width / short))
    top, left = round((small.shape[0] - size) / 2), round((small.shape[1] - size) / 2)
    return small[top : top + size, left : left + size]


def letterbox(picture: Image, size: int) -> Image:
    """Scale the longer side to `size` and centre the picture on a square of its mean colour."""
    height, width = picture.shape[:2]
    long = max(height, width)
    small = resize(picture, max(1, round(size * height / long)), max(1, round(size * width / long)))
    square = np.empty((size, size, 3), np.uint8)
    square[:] = small.mean(axis=(0, 1)).astype(np.uint8)
    top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square


def squash(picture: Image, size: int) -> Image:
    """Scale both sides to `size`, whatever the shape."""
    return resize(picture, size, size)


def around(picture: Image, mask: Mask, margin: float) -> Image:
    """Cut out the square around a mask, its box with `margin` of the box's longer side added on each side.

    What would lie outside of the picture is left out; an empty mask leaves all of it.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return picture
    half = max(1, round((0.5 + margin) * max(np.ptp(rows) + 1, np.ptp(columns) + 1)))
    y, x = int(rows[0] + rows[-1] + 1) // 2, int(columns[0] + columns[-1] + 1) // 2
    return picture[max(0, y - half) : y + half, max(0, x - half) : x + half]


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
