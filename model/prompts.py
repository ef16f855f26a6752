"""Visual prompts: an image changed so that CLIP looks at one mask (CaR, Section 3.3).

Whatever order they are asked in, prompts are applied as the released code does: blur, gray and black change what is
outside the mask; circle, rectangle and contour draw on top. What is the same for all masks of an image, its outside, is
made once, by OpenCV; pictures are put together where the masks are. Only lines are drawn on the CPU, for which a few
numbers of each mask cross over; contours need the masks themselves.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.sizes import Image

Mask = Tensor  # bool [H, W]
RED = (255, 0, 0)


@dataclass(frozen=True)
class Extent:
    """Where a mask lies: its box, the last row and column included, and its centre of mass (x, y), rounded down."""

    top: int
    bottom: int
    left: int
    right: int
    centroid: tuple[int, int]


class Prompter:
    """Prompts one image, uint8 [H, W, 3] RGB, with many masks, on the device where they are."""

    def __init__(
        self,
        image: Image,
        prompts: Collection[str],
        gray_weights: str = "rgb",
        ellipse: str = "box",
        device: torch.device | str = "cpu",
    ) -> None:
        self._inside = as_tensor(image, device)
        self._outside = as_tensor(outside(image, prompts, gray_weights), device)
        self._red = torch.tensor(RED, dtype=torch.uint8, device=device)
        self._whole = torch.ones(image.shape[:2], dtype=torch.bool, device=device)
        self._prompts = prompts
        self._ellipse = ellipse

    def __call__(self, masks: Sequence[Mask | None]) -> Tensor:
        """Return the pictures, uint8 [R, H, W, 3]: the image itself for None; an empty mask leaves only the outside."""
        stacked = torch.stack([self._whole if mask is None else mask for mask in masks])
        pictures = torch.where(stacked[..., None], self._inside, self._outside)
        prompted = [row for row, mask in enumerate(masks) if mask is not None]
        drawn = lines(stacked[prompted], self._prompts, self._ellipse)
        if drawn is not None:
            pictures[prompted] = torch.where(drawn[..., None], self._red, pictures[prompted])
        return pictures


def as_tensor(image: Image, device: torch.device | str) -> Tensor:
    """Return an image as a tensor on a device; one that may not be written to is copied."""
    return torch.from_numpy(np.require(image, requirements=("C", "W"))).to(device)


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


def lines(masks: Tensor, prompts: Collection[str], ellipse: str = "box") -> Tensor | None:
    """Return where red lines go for masks [R, H, W]: bool [R, H, W], or None if the prompts draw none."""
    if not len(masks) or not {"circle", "rectangle", "contour"} & set(prompts):
        return None
    canvas = np.zeros(masks.shape, np.uint8)
    for row, extent in enumerate(extents(masks)):
        if extent and "circle" in prompts:
            draw_circle(canvas[row], extent, ellipse)
        if extent and "rectangle" in prompts:
            draw_rectangle(canvas[row], extent)
    if "contour" in prompts:
        for row, mask in enumerate(masks.cpu().numpy()):
            draw_contour(canvas[row], mask)
    return torch.from_numpy(canvas).to(masks.device).bool()


def extents(masks: Tensor) -> list[Extent | None]:
    """Return where masks [R, H, W] lie, None for an empty one."""
    counts = [masks.sum(dim=2), masks.sum(dim=1)]  # of each row, of each column
    numbers = []
    for count in counts:
        place = torch.arange(count.shape[1], device=masks.device)
        first, last = (count > 0).byte().argmax(dim=1), (count > 0).byte().flip(1).argmax(dim=1)
        center = (count * place).sum(dim=1) // count.sum(dim=1).clamp(min=1)
        numbers += [first, count.shape[1] - 1 - last, center]
    sizes = counts[0].sum(dim=1)
    return [
        Extent(top, bottom, left, right, (x, y)) if size else None
        for top, bottom, y, left, right, x, size in torch.stack([*numbers, sizes], dim=1).tolist()
    ]


def draw_circle(canvas: NDArray[np.uint8], extent: Extent, ellipse: str = "box") -> None:
    """Draw an ellipse with the half axes of the mask's box, around the box's centre or the mask's centroid."""
    middle = ((extent.left + extent.right) // 2, (extent.top + extent.bottom) // 2)
    cv2.ellipse(canvas, extent.centroid if ellipse == "centroid" else middle, _half(extent), 0, 0, 360, (1,), 1)


def draw_rectangle(canvas: NDArray[np.uint8], extent: Extent) -> None:
    """Draw a rectangle of the size of the mask's box around the mask's centroid."""
    (x, y), (half_width, half_height) = extent.centroid, _half(extent)
    cv2.rectangle(canvas, (x - half_width, y - half_height), (x + half_width, y + half_height), (1,), 1)


def draw_contour(canvas: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    """Draw outlines around the parts of the mask, its holes filled."""
    contours, _ = cv2.findContours(fill_holes(mask).astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(canvas, contours, -1, (1,), 1)


def fill_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill what of the outside no path of straight steps connects to the image's border."""
    height, width = mask.shape
    canvas = np.zeros((height + 2, width + 2), np.uint8)
    canvas[1:-1, 1:-1] = mask
    cv2.floodFill(canvas, None, (0, 0), 2, flags=4)
    return np.asarray(canvas[1:-1, 1:-1] != 2)


def _half(extent: Extent) -> tuple[int, int]:
    return (extent.right - extent.left + 1) // 2, (extent.bottom - extent.top + 1) // 2
