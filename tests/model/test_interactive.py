"""Pointing at things: GrabCut on drawn shapes, the demo CLIP on its scenes, HQ-SAM with random weights."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.interactive import Pointer, Points, Window, cut, holding
from model.sam import Sam
from model.segmenter import Segmenter
from model.vocabulary import Query
from tests.weights import CLIP

NOWHERE = np.zeros((0, 2), np.int64)
MOAI = Query("moai", ("moai",))


def at(*places: tuple[int, int]) -> NDArray[np.int64]:
    return np.array(places, np.int64).reshape(-1, 2)


def disc(shape: tuple[int, int], centre: tuple[int, int], radius: int) -> NDArray[np.bool_]:
    return cv2.circle(np.zeros(shape, np.uint8), centre, radius, 1, -1) > 0


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


def drawn(size: int = 200) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
    """Two discs of much the same red on noisy grey, and where they are."""
    image = np.random.default_rng(0).normal(110, 12, (size, size, 3))
    left, right = (disc((size, size), (x * size // 200, size // 2), 30 * size // 200) for x in (60, 140))
    image[left] += (90, -60, -60)
    image[right] += (80, -50, -60)
    return image.clip(0, 255).astype(np.uint8), left, right


@pytest.mark.parametrize("size", [200, 1300])
def test_a_box_becomes_what_is_in_it(size: int) -> None:
    image, left, _ = drawn(size)
    box = Window(*(edge * size // 200 for edge in (20, 60, 100, 140)))
    guess = np.zeros(left.shape, bool)
    guess[box.place] = True
    found = cut(image, box.wider(left.shape), guess, ~guess)
    assert found.shape == left.shape
    assert iou(found, left) > 0.95
    outside = np.ones_like(found)
    outside[box.place] = False
    assert not found[: box.top].any()
    assert not found[:, : box.left].any()


def test_points_inside_and_outside_are_obeyed() -> None:
    image, left, right = drawn()
    whole = Window(0, 0, 200, 200)
    nothing = np.zeros_like(left)
    both = cut(image, whole, left | right, nothing, Points(at((60, 100)), NOWHERE))
    assert iou(both, left | right) > 0.9
    assert iou(holding(both, at((60, 100))), left) > 0.9
    without = cut(image, whole, left | right, nothing, Points(at((60, 100)), at((140, 100))))
    assert without[100, 60]
    assert not without[100, 140]


def test_a_guess_of_nothing_or_all_is_left_as_it_is() -> None:
    image = np.full((20, 20, 3), 90, np.uint8)
    whole = Window(0, 0, 20, 20)
    nothing = np.zeros((20, 20), bool)
    assert not cut(image, whole, nothing, nothing).any()
    assert cut(image, whole, ~nothing, nothing).all()


def test_a_window_is_wider_within_the_image() -> None:
    assert Window(50, 40, 150, 60).wider((100, 160)) == Window(25, 24, 160, 76)


@pytest.fixture
def scene(studio: Path) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Scene 000, and where its moai is."""
    index = 1 + (studio / "classes.txt").read_text().splitlines().index("moai")
    image = np.asarray(Image.open(studio / "images" / "000.png").convert("RGB"))
    return image, np.asarray(Image.open(studio / "masks" / "000.png")) == index


@pytest.mark.slow
def test_a_text_a_click_and_a_box_find_the_same(
    segmenter_of: Callable[..., Segmenter], scene: tuple[NDArray[np.uint8], NDArray[np.bool_]]
) -> None:
    image, truth = scene
    pointer = Pointer(segmenter_of(weights=str(CLIP)))
    rows, columns = np.nonzero(truth)
    middle = at((int(columns.mean()), int(rows.mean())))
    around = Window(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    by_text = pointer.at_text(image, "the moai on the right")
    by_click = pointer.at_points(image, MOAI, Points(middle, NOWHERE))
    by_box = pointer.at_box(image, MOAI, around)
    for found, least in ((by_text, 0.4), (by_click, 0.7), (by_box, 0.85)):
        assert found.mask.shape == truth.shape
        assert iou(found.mask, truth) > least
        assert 0 < found.score <= 1
    wrong = at((10, 300))
    again = pointer.at_points(image, MOAI, Points(middle, wrong))
    assert not again.mask[300, 10]
    assert again.mask[middle[0, 1], middle[0, 0]]


@pytest.mark.slow
def test_what_is_not_there_is_not_drawn_by_text(
    segmenter_of: Callable[..., Segmenter], scene: tuple[NDArray[np.uint8], NDArray[np.bool_]]
) -> None:
    found = Pointer(segmenter_of()).at_text(scene[0], "a guitar")
    assert not found.mask.any()
    assert found.score == 0


@pytest.mark.slow
def test_a_click_where_the_label_is_not_seen_finds_the_region_there(
    segmenter_of: Callable[..., Segmenter], scene: tuple[NDArray[np.uint8], NDArray[np.bool_]]
) -> None:
    image, truth = scene
    rows, columns = np.nonzero(truth)
    middle = at((int(columns.mean()), int(rows.mean())))
    guitar = Query("guitar", ("guitar",))
    found = Pointer(segmenter_of()).at_points(image, guitar, Points(middle, at((5, 5)))).mask
    assert found[middle[0, 1], middle[0, 0]]
    assert not found[5, 5]
    assert (found & truth).sum() > 0.2 * truth.sum()


@pytest.mark.slow
def test_hq_sam_looks_at_an_image_once(segmenter_of: Callable[..., Segmenter]) -> None:
    image, _, _ = drawn()
    sam = Sam("vit_tiny", "random")
    pointer = Pointer(segmenter_of(), sam)
    for inside, outside in ((at((60, 100)), NOWHERE), (at((60, 100), (70, 100)), at((140, 100)))):
        found = pointer.at_points(image, MOAI, Points(inside, outside))
        expected = sam.prompt(
            sam.embed(image),
            np.concatenate([inside, outside]).astype(np.float64),
            np.array([1] * len(inside) + [0] * len(outside)),
        )
        np.testing.assert_array_equal(found.mask, expected.mask)
        assert 0 <= found.score <= 1
    box = Window(20, 60, 100, 140)
    boxed = pointer.at_box(image, MOAI, box).mask
    boxed[box.place] = False
    assert not boxed.any(), "nothing beyond the box"
    assert sam.looks == 1
