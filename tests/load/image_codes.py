"""Numbers in images and in masks, so that a mask tells which image it was made from.

The stub draws an image's code into its pixels: two grey fields at the top. The null worker reads them and draws the
same code into the mask of the second label: two bars, at the top and at the bottom. Nothing else of the product is
asked, so a mask that was delivered to the wrong task, or made from an image that the task no longer has, shows.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from backend.masks.brush import BrushError, solid

CODES = 251
"""Different images. A prime: ids that are shifted by a batch of tasks do not meet the same code again."""
DIGITS = 16
"""A code is two digits of this base."""
STRIP = 8
"""The fields and bars have one part in so many of an image's height."""
GREY = 255 // (DIGITS - 1)
"""Difference in brightness between two digits: more than JPEG changes a plain field by."""


def photo(pixels: int, seed: int) -> np.ndarray:
    """About so many pixels, 4:3, uint8 [H, W, 3], with the detail of a photograph (not noise, not plain)."""
    height = max(1, round((pixels * 3 / 4) ** 0.5))
    width = max(1, round(pixels / height))
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    picture = picture + rng.integers(-12, 13, picture.shape, dtype=np.int16)
    return picture.clip(0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, code: int) -> bytes:
    """`image`, uint8 [H, W, 3], with a code at its top, as JPEG."""
    high, low = divmod(code, DIGITS)
    height, width = image.shape[0] // STRIP, image.shape[1]
    image = image.copy()
    image[:height, : width // 2] = low * GREY
    image[:height, width // 2 :] = high * GREY
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def code_of_image(image: np.ndarray) -> int:
    """The code in an image, uint8 [H, W, 3], as it was decoded. The fields' edges, where JPEG smears, are left out."""
    height, width = image.shape[0] // STRIP, image.shape[1]
    rows, margin = slice(height // 4, height - height // 4), width // 8
    low = image[rows, margin : width // 2 - margin].mean()
    high = image[rows, width // 2 + margin : width - margin].mean()
    return round(high / GREY) * DIGITS + round(low / GREY)


def masks_of(height: int, width: int, code: int) -> np.ndarray:
    """Two disjoint masks, bool [2, H, W]: a disc, and bars whose lengths are the digits of the code."""
    high, low = divmod(code, DIGITS)
    bars = np.zeros((height, width), bool)
    bars[: height // STRIP, : width * (low + 1) // DIGITS] = True
    bars[height - height // STRIP :, : width * (high + 1) // DIGITS] = True
    return np.stack([_disc(height, width), bars])


@cache
def _disc(height: int, width: int) -> np.ndarray:
    """Drawn once per size: the model's part of the work is not to be measured."""
    rows, columns = np.ogrid[:height, :width]
    disc: np.ndarray = (rows - height / 2) ** 2 + (columns - width / 2) ** 2 < (min(height, width) / 4) ** 2
    return disc


def code_of_prediction(prediction: Mapping[str, Any]) -> int | None:
    """The code in a prediction's second mask, None when there is none that can be read."""
    try:
        region = prediction["result"][1]
        height, width = region["original_height"], region["original_width"]
        bars = solid(region["value"]["rle"], height, width)
    except (KeyError, IndexError, TypeError, BrushError):
        return None
    low, high = (round(float(row.mean()) * DIGITS) - 1 for row in (bars[0], bars[-1]))
    return high * DIGITS + low
