"""Shapes of Label Studio -> masks: brush, bitmask, polygon, rectangle and ellipse regions, at their image's size.

Export and corrections read regions here. Whoever may annotate can send any JSON as a region: everything is checked, the
size first, and memory is bounded by the image that the region says it is on.
"""

from __future__ import annotations

import base64
import io
import struct
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from backend.masks import brush
from backend.masks.rasterize import rasterize

Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]

MOST_PIXELS = 178_956_970
"""Pillow decodes no larger image, whatever `CAR_MAX_PIXELS` says."""
FARTHEST = 1e6
"""Per cent of the image: no coordinate is larger."""
_PNG = "data:image/png;base64,"
_HEADER = struct.Struct(">8s4x4sII")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class ShapeError(ValueError):
    """A region that cannot become a mask; the message says why."""


def shape_of(region: Mapping[str, Any]) -> str | None:
    """The shape of a region, one of `SHAPES`, by its type (`brushlabels`, `brush`, ...); None for all else."""
    kind = region.get("type")
    shape = kind.removesuffix("labels") if isinstance(kind, str) else None
    return shape if shape in SHAPES else None


def names_in(value: object) -> tuple[str, ...]:
    """The labels that a region's value lists, () where it has none. Raises ShapeError for what is no list of names."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ShapeError("its labels are not a list of names")
    return tuple(value)


def size_of(region: Mapping[str, Any], most_pixels: int = MOST_PIXELS) -> tuple[int, int]:
    """(height, width) of the image that a region is on, as it says itself.

    Raises:
        ShapeError: it does not say so, or the image has more pixels than `most_pixels`.
    """
    height, width = (_whole(region.get(name)) for name in ("original_height", "original_width"))
    if height is None or width is None:
        raise ShapeError("it does not say how large its image is (original_width, original_height)")
    if height * width > most_pixels:
        raise ShapeError(f"its image would have more than the {most_pixels:,} pixels allowed")
    return height, width


def mask_of(region: Mapping[str, Any], height: int, width: int) -> Mask:
    """The mask [H, W] of a region on an image of that size; may be empty. Raises ShapeError."""
    shape, value = shape_of(region), region.get("value")
    if shape is None:
        raise ShapeError("it is of a shape that is not known here")
    if not isinstance(value, Mapping):
        raise ShapeError("it has no value")
    try:
        return SHAPES[shape](value, height, width)
    except ShapeError:
        raise
    except ValueError as error:
        raise ShapeError(str(error)) from None


def _whole(number: object) -> int | None:
    """A whole number from 1 up, also where JSON has it as 640.0; None for anything else."""
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    return int(number) if number >= 1 and number != float("inf") and number == int(number) else None


def _number(value: Mapping[str, Any], name: str, default: float | None = None) -> float:
    found = value.get(name, default)
    if isinstance(found, bool) or not isinstance(found, int | float) or not -FARTHEST <= found <= FARTHEST:
        raise ShapeError(f"its {name} is not a number that lies near the image")
    return float(found)


def _brush(value: Mapping[str, Any], height: int, width: int) -> Mask:
    if "rle" not in value:
        raise ShapeError("it has no rle")
    return brush.solid(value["rle"], height, width)


def _bitmask(value: Mapping[str, Any], height: int, width: int) -> Mask:
    """Every pixel of the PNG that is not fully transparent, as Label Studio's editor reads it."""
    address = value.get("imageDataURL")
    if not isinstance(address, str) or not address.startswith(_PNG):
        raise ShapeError("its imageDataURL is not a PNG as a data URI")
    try:
        data = base64.b64decode(address[len(_PNG) :], validate=True)
        signature, chunk, *claimed = _HEADER.unpack_from(data)
    except (ValueError, struct.error):
        raise ShapeError("its imageDataURL is not base64 of a PNG") from None
    if (signature, chunk) != (_SIGNATURE, b"IHDR"):
        raise ShapeError("its imageDataURL is not base64 of a PNG")
    if claimed != [width, height]:
        raise ShapeError(f"its PNG is {claimed[0]} x {claimed[1]}, its image {width} x {height}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images: the size is checked
            with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
                alpha = picture.convert("RGBA").getchannel("A") if picture.size == (width, height) else None
    except MemoryError:
        raise
    except Exception as error:  # a decoder fed with foreign bytes may raise anything
        raise ShapeError(f"its PNG is broken or cut short ({error})") from None
    if alpha is None or alpha.size != (width, height):
        raise ShapeError("its PNG says two sizes")
    return np.asarray(alpha) > 0


def _polygon(value: Mapping[str, Any], height: int, width: int) -> Mask:
    try:
        points = np.array(value.get("points"), np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ShapeError("its points are not pairs of numbers") from None
    if points.ndim == 2 and np.isfinite(points).all() and (np.abs(points) > FARTHEST).any():
        raise ShapeError("its points are far from the image")
    scale = np.array([width, height]) / 100
    return rasterize(points * scale if points.ndim == 2 and points.shape[1] == 2 else points, height, width)


def _rectangle(value: Mapping[str, Any], height: int, width: int) -> Mask:
    """Label Studio turns a rectangle around its upper left corner, clockwise, by degrees."""
    corner = np.array([_number(value, "x") * width, _number(value, "y") * height]) / 100
    sides = np.array([_number(value, "width") * width, _number(value, "height") * height]) / 100
    outline = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * sides
    return rasterize(corner + _turned(outline, value), height, width)


def _ellipse(value: Mapping[str, Any], height: int, width: int) -> Mask:
    centre = np.array([_number(value, "x") * width, _number(value, "y") * height]) / 100
    radii = np.array([_number(value, "radiusX") * width, _number(value, "radiusY") * height]) / 100
    angles = np.linspace(0, 2 * np.pi, 181)[:-1]
    outline = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii
    return rasterize(centre + _turned(outline, value), height, width)


def _turned(points: Points, value: Mapping[str, Any]) -> Points:
    angle = np.radians(_number(value, "rotation", 0.0) if value.get("rotation") is not None else 0.0)
    turned: Points = points @ [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    return turned


SHAPES: Mapping[str, Callable[[Mapping[str, Any], int, int], Mask]] = {
    "brush": _brush,
    "bitmask": _bitmask,
    "polygon": _polygon,
    "ellipse": _ellipse,
    "rectangle": _rectangle,
}
"""The shapes that become masks, the most exact ones first."""
