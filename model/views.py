"""What the classifier sees of prompted pictures, uint8 [R, H, W, 3]: squares of its own size, [R, size, size, 3].

CLIP was trained on pictures that Pillow made smaller. On a CPU Pillow does it here, too; on a GPU torch computes the
same numbers, to the bit, so that pictures need not come back.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.prompts import Mask, extents
from model.sizes import resize

BITS = 22  # of the fractions of Pillow's weights
AT_ONCE = 16  # pictures that are resized at once: float64 takes room


def views(pictures: Tensor, masks: Sequence[Mask | None], size: int, view: str, margin: float) -> Tensor:
    """Return pictures as the setting `classifier_view` says; `margin` is `object_margin`."""
    if view != "object":
        return {"crop": center_crop, "letterbox": letterbox, "squash": squash}[view](pictures, size)
    pairs = zip(pictures, masks, strict=True)
    shown = [picture if mask is None else cut_out(picture, mask, margin) for picture, mask in pairs]
    return torch.cat([letterbox(one[None], size) for one in shown])


def center_crop(pictures: Tensor, size: int) -> Tensor:
    """Scale the shorter side to `size` and cut the middle square out, as OpenAI's preprocessing does."""
    height, width = pictures.shape[1:3]
    short = min(height, width)
    small = resized(pictures, int(size * height / short), int(size * width / short))
    top, left = round((small.shape[1] - size) / 2), round((small.shape[2] - size) / 2)
    return small[:, top : top + size, left : left + size]


def letterbox(pictures: Tensor, size: int) -> Tensor:
    """Scale the longer side to `size` and centre each picture on a square of its mean colour."""
    height, width = pictures.shape[1:3]
    long = max(height, width)
    small = resized(pictures, max(1, round(size * height / long)), max(1, round(size * width / long)))
    height, width = small.shape[1:3]
    colors = (small.sum(dim=(1, 2)) // (height * width)).byte()
    squares = colors[:, None, None].repeat(1, size, size, 1)
    top, left = (size - height) // 2, (size - width) // 2
    squares[:, top : top + height, left : left + width] = small
    return squares


def squash(pictures: Tensor, size: int) -> Tensor:
    """Scale both sides to `size`, whatever the shape."""
    return resized(pictures, size, size)


def cut_out(picture: Tensor, mask: Mask, margin: float) -> Tensor:
    """Cut out of a picture [H, W, 3] the square around a mask, its box with `margin` of its longer side all around.

    What would lie outside of the picture is left out; an empty mask leaves all of it.
    """
    (extent,) = extents(mask[None])
    if extent is None:
        return picture
    long = max(extent.bottom - extent.top, extent.right - extent.left) + 1
    half = max(1, round((0.5 + margin) * long))
    y, x = (extent.top + extent.bottom + 1) // 2, (extent.left + extent.right + 1) // 2
    return picture[max(0, y - half) : y + half, max(0, x - half) : x + half]


def resized(pictures: Tensor, height: int, width: int) -> Tensor:
    """Resize pictures with Pillow's bicubic filter, where they are."""
    return (by_pillow if pictures.device.type == "cpu" else by_torch)(pictures, height, width)


def by_pillow(pictures: Tensor, height: int, width: int) -> Tensor:
    """Resize pictures on the CPU."""
    return torch.from_numpy(np.stack([resize(picture, height, width) for picture in pictures.numpy()]))


def by_torch(pictures: Tensor, height: int, width: int) -> Tensor:
    """Resize pictures on any device, as Pillow (13) does: across, then down, rounded and cut to a byte after each.

    Down first where that takes off more than twice as many pixels. Pillow's weights are whole numbers of 2^-22: sums of
    their products with bytes are exact in float64.
    """
    down, across = (
        torch.from_numpy(weights(source, target)).to(pictures.device)
        for source, target in zip(pictures.shape[1:3], (height, width), strict=True)
    )
    off, off_width = pictures.shape[1] - height, pictures.shape[2] - width
    parts = []
    for start in range(0, len(pictures), AT_ONCE):
        x = pictures[start : start + AT_ONCE].permute(0, 3, 1, 2).double()
        x = _byte(_byte(down @ x) @ across.T) if off > max(0, 2 * off_width) else _byte(down @ _byte(x @ across.T))
        parts.append(x.byte().permute(0, 2, 3, 1))
    return torch.cat(parts)


@lru_cache(maxsize=64)
def weights(source: int, target: int) -> NDArray[np.float64]:
    """Return what each of `source` pixels counts in each of `target` pixels, in units of 2^-22: [target, source]."""
    if source == target:
        return np.asarray(np.eye(source) * 2**BITS)  # Pillow leaves such a side alone
    scale = max(source / target, 1.0)
    centers = (np.arange(target)[:, None] + 0.5) * (source / target)
    first, end = (centers - 2 * scale + 0.5).astype(int), (centers + 2 * scale + 0.5).astype(int)
    pixels = np.arange(source)
    x = np.abs((pixels - centers + 0.5) * (1 / scale))
    near, far = (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5
    shares = np.where(x < 1, near, np.where(x < 2, far, 0)) * ((pixels >= first) & (pixels < end))
    shares /= shares.sum(axis=1, keepdims=True)
    return np.asarray(np.trunc(shares * 2**BITS + np.copysign(0.5, shares)))


def _byte(x: Tensor) -> Tensor:
    return x.add_(2 ** (BITS - 1)).mul_(2.0**-BITS).floor_().clamp_(0, 255)
