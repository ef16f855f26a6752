import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.prompts import Extent, Prompter, draw_circle, draw_contour, draw_rectangle, extents, fill_holes, outside

RED = [255, 0, 0]


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (20, 24, 3)).astype(np.uint8)


@pytest.fixture
def mask() -> np.ndarray:
    mask = np.zeros((20, 24), bool)
    mask[5:10, 8:17] = True
    return mask


@pytest.mark.parametrize("prompts", [("blur",), ("gray",), ("black",), ("gray", "blur"), ()])
def test_inside_stays_and_outside_changes(image: np.ndarray, mask: np.ndarray, prompts: tuple[str, ...]) -> None:
    picture = Prompter(image, prompts)([torch.from_numpy(mask)])[0].numpy()
    np.testing.assert_array_equal(picture[mask], image[mask])
    assert (picture[~mask] != image[~mask]).any() == bool(prompts)


def test_gray_has_three_equal_channels_of_the_blurred_image(image: np.ndarray) -> None:
    blurred = cv2.GaussianBlur(image, (15, 15), 0)
    expected = cv2.cvtColor(blurred, cv2.COLOR_RGB2GRAY)
    for channel in range(3):
        np.testing.assert_array_equal(outside(image, ("gray", "blur"))[..., channel], expected)


def test_swapped_gray_weights() -> None:
    red = np.full((2, 2, 3), RED, np.uint8)
    assert outside(red, ("gray",), "rgb")[0, 0, 0] == 76
    assert outside(red, ("gray",), "bgr")[0, 0, 0] == 29


def test_black_is_black(image: np.ndarray) -> None:
    assert not outside(image, ("blur", "gray", "black")).any()


def test_where_masks_lie(mask: np.ndarray) -> None:
    tail = np.zeros((20, 24), bool)
    tail[0, 0] = tail[19, 23] = tail[19, 22] = True
    both = extents(torch.from_numpy(np.stack([mask, np.zeros_like(mask), tail])))
    assert both == [Extent(5, 9, 8, 16, (12, 7)), None, Extent(0, 19, 0, 23, (15, 12))]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 6)), min_size=1))
def test_extents_are_what_numpy_says(pixels: list[tuple[int, int]]) -> None:
    mask = np.zeros((9, 7), bool)
    mask[tuple(np.array(pixels).T)] = True
    rows, columns = np.nonzero(mask)
    expected = Extent(rows.min(), rows.max(), columns.min(), columns.max(), (int(columns.mean()), int(rows.mean())))
    assert extents(torch.from_numpy(mask)[None]) == [expected]


def test_rectangle_around_a_box() -> None:
    canvas = np.zeros((20, 24), np.uint8)
    draw_rectangle(canvas, Extent(5, 9, 8, 16, (12, 7)))
    rows, columns = np.nonzero(canvas)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 9, 8, 16)
    assert canvas[7, 12] == 0


@pytest.mark.parametrize(("ellipse", "center"), [("box", 8), ("centroid", 6)])
def test_circle_around_the_box_or_the_centroid(ellipse: str, center: int) -> None:
    """A thin tail pulls the box to the right, the centroid less."""
    canvas = np.zeros((20, 24), np.uint8)
    draw_circle(canvas, Extent(4, 8, 4, 12, (6, 6)), ellipse)
    columns = np.nonzero(canvas[6])[0]
    assert (columns.min() + columns.max()) / 2 == center


def test_contour_ignores_holes(mask: np.ndarray) -> None:
    mask[7, 11:13] = False
    canvas = np.zeros((20, 24), np.uint8)
    draw_contour(canvas, mask)
    assert canvas.sum() == 2 * 9 + 2 * 3
    assert canvas[5, 8]
    assert not canvas[6:9, 9:16].any()


@pytest.mark.parametrize("prompt", ["circle", "rectangle", "contour"])
def test_lines_are_red_and_each_mask_has_its_own(image: np.ndarray, mask: np.ndarray, prompt: str) -> None:
    masks = [torch.from_numpy(mask), None, torch.from_numpy(np.roll(mask, 6, 0))]
    first, whole, last = Prompter(image, (prompt, "black"))(masks).numpy()
    np.testing.assert_array_equal(whole, image)
    red = (first == RED).all(axis=2)
    assert red.any()
    np.testing.assert_array_equal(first[~red & mask], image[~red & mask])
    assert not first[~red & ~mask].any()
    np.testing.assert_array_equal((last == RED).all(axis=2), np.roll(red, 6, 0))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["111", "101", "111"], ["111", "111", "111"]),
        (["101", "101", "111"], ["101", "101", "111"]),
        (["0110", "1001", "0110"], ["0110", "1111", "0110"]),
    ],
)
def test_fill_holes(rows: list[str], expected: list[str]) -> None:
    def grid(lines: list[str]) -> np.ndarray:
        return np.array([[c == "1" for c in line] for line in lines])

    np.testing.assert_array_equal(fill_holes(grid(rows)), grid(expected))


def test_an_empty_mask_draws_nothing(image: np.ndarray) -> None:
    prompts = ("circle", "rectangle", "contour")
    empty = torch.zeros(20, 24, dtype=torch.bool)
    np.testing.assert_array_equal(Prompter(image, prompts)([empty])[0], image)
