"""Shapes of Label Studio as masks, and what may be sent in their place."""

from __future__ import annotations

import base64
import io
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from backend.masks import brush
from backend.masks.shapes import SHAPES, ShapeError, mask_of, names_in, shape_of, size_of

WIDTH, HEIGHT = 40, 20
MASK = np.zeros((HEIGHT, WIDTH), bool)
MASK[5:15, 10:30] = True


def uri(picture: Image.Image, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def rgba(mask: np.ndarray, alpha: int = 255) -> Image.Image:
    """Black on transparent, as Label Studio's bitmask is."""
    pixels = np.zeros((*mask.shape, 4), np.uint8)
    pixels[mask, 3] = alpha
    return Image.fromarray(pixels)


def palette(mask: np.ndarray) -> str:
    picture = Image.fromarray(mask.astype(np.uint8), "P")
    picture.putpalette([0, 0, 0, 255, 255, 255])
    return uri(picture, transparency=0, bits=1)


def region(shape: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"type": shape, "original_width": WIDTH, "original_height": HEIGHT, "value": value, **more}


SQUARE = {"points": [[25, 25], [75, 25], [75, 75], [25, 75]], "closed": True}
BOX = {"x": 25, "y": 25, "width": 50, "height": 50, "rotation": 0}


@pytest.mark.parametrize(
    "same",
    [
        region("brushlabels", {"rle": brush.encode(MASK)}),
        region("bitmasklabels", {"imageDataURL": uri(rgba(MASK))}),
        region("bitmask", {"imageDataURL": palette(MASK)}),
        region("bitmask", {"imageDataURL": uri(rgba(MASK, alpha=1))}),  # not fully transparent is there
        region("polygonlabels", SQUARE),
        region("polygon", {**SQUARE, "points": [[25.0000001, 25], [75, 24.9999999], [75, 75], [25, 75]]}),
        region("rectanglelabels", BOX),
        region("rectangle", {**BOX, "x": 75, "width": 25, "height": 100, "rotation": 90}),  # pixels are square
        region("rectanglelabels", {name: BOX[name] for name in BOX if name != "rotation"}),
    ],
)
def test_one_mask_in_every_shape(same: dict[str, Any]) -> None:
    assert shape_of(same) in SHAPES
    assert size_of(same) == (HEIGHT, WIDTH)
    assert (mask_of(same, HEIGHT, WIDTH) == MASK).all()


def test_an_ellipse_turns_around_its_centre() -> None:
    lying = mask_of(region("ellipselabels", {"x": 50, "y": 50, "radiusX": 20, "radiusY": 15}), HEIGHT, WIDTH)
    turned = {"x": 50, "y": 50, "radiusX": 20, "radiusY": 15, "rotation": 90}
    standing = mask_of(region("ellipse", turned), HEIGHT, WIDTH)
    assert lying.sum() == pytest.approx(np.pi * 8 * 3, rel=0.1)
    rows, columns = (np.flatnonzero(lying.any(axis=axis)) for axis in (1, 0))
    assert (len(rows), len(columns)) == (6, 16)
    rows, columns = (np.flatnonzero(standing.any(axis=axis)) for axis in (1, 0))
    assert (len(rows), len(columns)) == (16, 6)


@pytest.mark.parametrize("kind", ["choices", "keypointlabels", "vectorlabels", "labels", "relation", "", None, 5])
def test_what_is_no_shape(kind: object) -> None:
    assert shape_of({"type": kind}) is None


def png_with_size(width: int, height: int) -> str:
    """The PNG of `MASK`, whose header claims another size."""
    data = bytearray(base64.b64decode(uri(rgba(MASK)).partition(",")[2]))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return "data:image/png;base64," + base64.b64encode(data).decode()


BROKEN = [
    ("brushlabels", None, "no value"),
    ("brushlabels", {}, "no rle"),
    ("brushlabels", {"rle": [1, 2, 3]}, "7 bytes of header"),
    ("brushlabels", {"rle": 5}, "list of byte values"),
    ("brushlabels", {"rle": ["a"]}, "whole numbers from 0 to 255"),
    ("brushlabels", {"rle": brush.encode(MASK[:2])}, "an image of 40 x 20"),
    ("bitmask", {}, "not a PNG as a data URI"),
    ("bitmask", {"imageDataURL": "https://elsewhere/mask.png"}, "not a PNG as a data URI"),
    ("bitmask", {"imageDataURL": "data:image/png;base64,%%%"}, "not base64 of a PNG"),
    ("bitmask", {"imageDataURL": "data:image/png;base64,AAAA"}, "not base64 of a PNG"),
    ("bitmask", {"imageDataURL": "data:image/png;base64," + "QUFB" * 20}, "not base64 of a PNG"),
    ("bitmask", {"imageDataURL": uri(rgba(MASK))[:-40]}, "not base64|broken or cut short"),
    ("bitmask", {"imageDataURL": uri(rgba(MASK[:, :8]))}, "its PNG is 8 x 20, its image 40 x 20"),
    ("bitmask", {"imageDataURL": png_with_size(10**6, 10**6)}, "its PNG is 1000000 x 1000000"),
    ("bitmask", {"imageDataURL": uri(rgba(MASK)).replace("image/png", "image/webp")}, "not a PNG as a data URI"),
    ("polygonlabels", {}, "not pairs of numbers|three points"),
    ("polygonlabels", {"points": 5}, "three points"),
    ("polygonlabels", {"points": [[1, 2], [3]]}, "not pairs of numbers"),
    ("polygonlabels", {"points": [[0, 0], [1, 1]]}, "three points"),
    ("polygonlabels", {"points": [[0, 0, 0]] * 3}, "three points"),
    ("polygonlabels", {"points": [[0, 0], [1, 1], [1e400, 2]]}, "three points"),
    ("polygonlabels", {"points": [[0, 0], [1, 1], [10**400, 2]]}, "not pairs of numbers"),
    ("polygonlabels", {"points": [[0, 0], [1, 1], [1e300, 2]]}, "far from the image"),
    ("rectanglelabels", {"x": 1}, "its y is not a number"),
    ("rectanglelabels", {**BOX, "width": "wide"}, "its width is not a number"),
    ("rectanglelabels", {**BOX, "x": float("nan")}, "its x is not a number"),
    ("rectanglelabels", {**BOX, "rotation": 10**400}, "its rotation is not a number"),
    ("ellipselabels", {**BOX, "radiusX": True, "radiusY": 2}, "its radiusX is not a number"),
    ("keypointlabels", {"x": 1, "y": 1}, "not known here"),
]


@pytest.mark.parametrize(("kind", "value", "words"), BROKEN)
def test_what_is_broken_says_why(kind: str, value: Any, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        mask_of(region(kind, value), HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("width", "height", "words"),
    [
        (None, 20, "how large"),
        ("40", 20, "how large"),
        (0, 20, "how large"),
        (-40, 20, "how large"),
        (True, 20, "how large"),
        (1e400, 20, "how large"),
        (float("nan"), 20, "how large"),
        (40.5, 20, "how large"),
        (10**6, 10**6, "more than the 1,000 pixels"),
        (10**400, 1, "more than the 1,000 pixels"),
        (40, 26, "more than the 1,000 pixels"),
    ],
)
def test_sizes_that_are_refused(width: object, height: object, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        size_of({"original_width": width, "original_height": height}, most_pixels=1000)


def test_a_size_may_be_a_whole_number_with_a_point() -> None:
    assert size_of({"original_width": 40.0, "original_height": 20}, most_pixels=800) == (20, 40)


@pytest.mark.parametrize("value", [5, "cat", {"cat": 1}, [5], [None], [["cat"]]])
def test_labels_are_a_list_of_names(value: object) -> None:
    with pytest.raises(ShapeError, match="not a list of names"):
        names_in(value)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
NAMES = ("rle", "imageDataURL", "points", "x", "y", "width", "height", "radiusX", "radiusY", "rotation")
NUMBERS = st.floats() | st.integers() | st.floats(-50, 150)
VALUES = JSON | st.dictionaries(
    st.sampled_from(NAMES), JSON | NUMBERS | st.lists(st.lists(NUMBERS, min_size=2, max_size=2), max_size=6)
)


@given(st.sampled_from(sorted(SHAPES)), VALUES)
def test_any_json_is_a_mask_or_an_error_of_ours(shape: str, value: Any) -> None:
    try:
        mask = mask_of(region(shape, value), HEIGHT, WIDTH)
    except ShapeError:
        return
    assert mask.shape == (HEIGHT, WIDTH)
    assert mask.dtype == bool


def test_memory_is_bounded_by_the_image() -> None:
    """A polygon of 2,000 points all over a megapixel takes a few bytes for each pixel while it is drawn."""
    zigzag = [[x / 20, 100 * (x % 2)] for x in range(2000)]
    large = region("polygonlabels", {"points": zigzag}, original_width=1000, original_height=1000)
    tracemalloc.start()
    try:
        mask_of(large, 1000, 1000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40e6
