import cv2
import numpy as np
import pytest

from model.prompts import Prompter, draw_circle, draw_contour, draw_rectangle, fill_holes, outside

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
    picture = Prompter(image, prompts)(mask)
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


def test_rectangle_around_a_box(mask: np.ndarray) -> None:
    picture = np.zeros((20, 24, 3), np.uint8)
    draw_rectangle(picture, mask)
    rows, columns = np.nonzero(picture[..., 0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 9, 8, 16)
    assert picture[7, 12].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("ellipse", "center"), [("box", 8), ("centroid", 6)])
def test_circle_around_the_box_or_the_centroid(ellipse: str, center: int) -> None:
    mask = np.zeros((20, 24), bool)
    mask[4:9, 4:7] = True
    mask[6, 4:13] = True  # a thin tail pulls the box to the right, the centroid less
    picture = np.zeros((20, 24, 3), np.uint8)
    draw_circle(picture, mask, ellipse)
    columns = np.nonzero(picture[6, :, 0])[0]
    assert (columns.min() + columns.max()) / 2 == center
    assert picture[6, columns[0]].tolist() == RED


def test_contour_ignores_holes(mask: np.ndarray) -> None:
    mask[7, 11:13] = False
    picture = np.zeros((20, 24, 3), np.uint8)
    draw_contour(picture, mask)
    drawn = picture[..., 0] > 0
    assert drawn.sum() == 2 * 9 + 2 * 3
    assert drawn[5, 8]
    assert not drawn[6:9, 9:16].any()


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
    np.testing.assert_array_equal(Prompter(image, prompts)(np.zeros((20, 24), bool)), image)
