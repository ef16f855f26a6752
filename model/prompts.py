"""Visual prompts: an image changed so that CLIP looks at one mask (CaR, Section 3.3).

Images are uint8 [H, W, 3] RGB, masks bool [H, W]. Whatever order they are asked in, prompts are applied as the released
code does: blur, gray and black change what is outside the mask; circle, rectangle and contour draw on top.
"""

from collections.abc import Collection

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
RED = (255, 0, 0)


class Prompter:
    """Prompts one image with many masks: what lies outside them is the same picture each time, made once."""

    def __init__(self, image: Image, prompts: Collection[str], gray_weights: str = "rgb", ellipse: str = "box") -> None:
        self._image = image
        self._outside = outside(image, prompts, gray_weights)
        self._prompts = prompts
        self._ellipse = ellipse

    def __call__(self, mask: Mask) -> Image:
        """Return the image prompted with a mask; an empty mask leaves only the outside."""
        picture = np.where(mask[..., None], self._image, self._outside)
        if mask.any():
            if "circle" in self._prompts:
                draw_circle(picture, mask, self._ellipse)
            if "rectangle" in self._prompts:
                draw_rectangle(picture, mask)
            if "contour" in self._prompts:
                draw_contour(picture, mask)
        return picture


def outside(image: Image, prompts: Collection[str], gray_weights: str = "rgb") -> Image:
    """Return what is shown outside the mask: the image blurred, grey, black, or as it is."""
    picture = image
    if "blur" in prompts:
        picture = np.asarray(cv2.GaussianBlur(picture, (15, 15), 0), np.uint8)
    if "gray" in prompts:
        code = cv2.COLOR_BGR2GRAY if gray_weights == "bgr" else cv2.COLOR_RGB2GRAY
        picture = np.repeat(np.asarray(cv2.cvtColor(picture, code), np.uint8)[..., None], 3, axis=2)
    if "black" in prompts:
        picture = np.zeros_like(picture)
    return picture


def draw_circle(picture: Image, mask: Mask, ellipse: str = "box") -> None:
    """Draw a red ellipse with the half axes of the mask's box, around the box's centre or the mask's centroid."""
    top, bottom, left, right = _box(mask)
    center = _centroid(mask) if ellipse == "centroid" else ((left + right) // 2, (top + bottom) // 2)
    axes = ((right - left + 1) // 2, (bottom - top + 1) // 2)
    cv2.ellipse(picture, center, axes, 0, 0, 360, RED, 1)


def draw_rectangle(picture: Image, mask: Mask) -> None:
    """Draw a red rectangle of the size of the mask's box around the mask's centroid."""
    top, bottom, left, right = _box(mask)
    x, y = _centroid(mask)
    half_width, half_height = (right - left + 1) // 2, (bottom - top + 1) // 2
    cv2.rectangle(picture, (x - half_width, y - half_height), (x + half_width, y + half_height), RED, 1)


def draw_contour(picture: Image, mask: Mask) -> None:
    """Draw red outlines around the parts of the mask, its holes filled."""
    contours, _ = cv2.findContours(fill_holes(mask).astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(picture, contours, -1, RED, 1)


def fill_holes(mask: Mask) -> Mask:
    """Fill what of the outside no path of straight steps connects to the image's border."""
    height, width = mask.shape
    canvas = np.zeros((height + 2, width + 2), np.uint8)
    canvas[1:-1, 1:-1] = mask
    cv2.floodFill(canvas, None, (0, 0), 2, flags=4)
    return np.asarray(canvas[1:-1, 1:-1] != 2)


def _box(mask: Mask) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def _centroid(mask: Mask) -> tuple[int, int]:
    rows, columns = np.nonzero(mask)
    return int(columns.mean()), int(rows.mean())
