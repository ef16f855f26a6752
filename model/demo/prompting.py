"""Visual prompts for training, by the product's own functions, with masks as coarse as maps make them.

The product prompts an image at its natural size and shrinks it to what CLIP sees: so does this. `zoom` is the natural
size over CLIP's: a line of one pixel at zoom 2 is half as thick and half as red; images smaller than CLIP's have
thicker ones.
"""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model.prompts import Prompter, draw_circle, extents, fill_holes

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

CIRCLE = ("circle",)
KINDS: tuple[tuple[str, ...], ...] = (
    CIRCLE,
    ("blur",),
    ("circle", "blur"),
    ("gray",),
    ("black",),
    ("contour",),
    ("circle", "gray"),
    ("contour", "blur"),
    ("blur", "gray"),
    ("circle", "blur", "gray"),
)
SHARES = (0.16, 0.12, 0.1, 0.1, 0.08, 0.03, 0.06, 0.03, 0.26, 0.06)  # how often each kind is shown
ZOOMS = (0.5, 0.75, 1.0, 1.0, 1.5, 2.0)
CIRCLE_ZOOMS = (0.25, 0.35, *ZOOMS)  # thick ones are easier, and help with thin ones


def prompt(image: Image, mask: Mask, kind: tuple[str, ...], zoom: float = 1.0) -> Image:
    """Prompt an image [S, S, 3] with a mask [S, S] as at natural size `zoom` * S, then shrunk back to S."""
    size = image.shape[0]
    natural = round(size * zoom)
    if natural != size:
        image = np.asarray(cv2.resize(image, (natural, natural), interpolation=cv2.INTER_CUBIC), np.uint8)
        large = cv2.resize(mask.astype(np.float32), (natural, natural), interpolation=cv2.INTER_LINEAR)
        mask = np.asarray(large > 0.5)
    picture = Prompter(image, kind)([torch.from_numpy(np.ascontiguousarray(mask))])[0].numpy()
    if natural != size:
        picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(picture, np.uint8)


def encircled(mask: Mask) -> Mask:
    """Return the inside of the circle that is drawn around a mask [S, S], its line included."""
    framed = np.pad(mask, 2)  # a circle at the border is closed outside
    canvas = np.zeros(framed.shape, np.uint8)
    extent = extents(torch.from_numpy(framed)[None])[0]
    if extent:
        draw_circle(canvas, extent)
    return fill_holes(canvas > 0)[2:-2, 2:-2]


def coarse(mask: Mask, rng: np.random.Generator) -> Mask:
    """Change a mask as maps do: grown, shrunk, at patch resolution with noise, or not at all."""
    chance = rng.random()
    solid = mask.astype(np.float32)
    if chance < 0.3:
        size = 2 * int(rng.integers(2, 9)) + 1
        changed = cv2.dilate(solid, np.ones((size, size), np.uint8))
    elif chance < 0.75:
        side = mask.shape[0] // 16
        small = np.asarray(cv2.resize(solid, (side, side), interpolation=cv2.INTER_AREA), np.float32)
        small = small + 0.12 * rng.standard_normal(small.shape).astype(np.float32)
        enlarged = cv2.resize(small, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
        changed = np.asarray(enlarged > rng.uniform(0.15, 0.5), np.float32)
    elif chance < 0.82:
        changed = cv2.erode(solid, np.ones((9, 9), np.uint8))
    else:
        return mask
    return np.asarray(changed > 0.5) if changed.sum() > 120 else mask


def touching(mask: Mask, thing: Mask) -> Mask:
    """Return the parts of a mask [S, S] that touch a thing's own; that one if none does.

    One stray patch would stretch a circle over half of the image.
    """
    _, parts = cv2.connectedComponents(mask.astype(np.uint8))
    met = np.unique(parts[mask & thing])
    return np.isin(parts, met) if len(met) else thing


def anywhere(shape: tuple[int, int], rng: np.random.Generator) -> Mask:
    """Return a random box as a mask: what a map may mark where there is nothing."""
    mask = np.zeros(shape, np.bool_)
    height, width = (int(rng.uniform(0.11, 0.24) * side) for side in shape)
    top, left = int(rng.integers(shape[0] - height)), int(rng.integers(shape[1] - width))
    mask[top : top + height, left : left + width] = True
    return mask
