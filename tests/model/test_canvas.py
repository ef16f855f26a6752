from dataclasses import replace

import numpy as np
import pytest

from model.canvas import draw, without_specks
from model.crf import refine, with_background, wrapped
from model.presets import preset

DEMO = preset("demo")


@pytest.fixture
def square() -> tuple[np.ndarray, np.ndarray]:
    """A bright square on dark ground, and a map that only roughly lies on it."""
    image = np.full((48, 48, 3), 30, np.uint8)
    image[12:36, 12:36] = 220
    soft = np.zeros((1, 6, 6), np.float32)
    soft[0, 1:5, 1:5] = 0.6
    soft[0, 2:4, 2:4] = 1
    return image, soft


def test_the_crf_draws_along_edges(square: tuple[np.ndarray, np.ndarray]) -> None:
    image, soft = square
    index = draw(image, soft, DEMO)
    np.testing.assert_array_equal(index == 1, image[..., 0] == 220)


def test_without_a_crf_the_largest_map_wins(square: tuple[np.ndarray, np.ndarray]) -> None:
    image, soft = square
    index = draw(image, soft, replace(DEMO, refine="none", background_power=1.0))
    assert index[24, 24] == 1
    assert index[0, 0] == 0
    assert (index == 1).sum() != (image[..., 0] == 220).sum()


def test_masks_drawn_small_come_back_large(square: tuple[np.ndarray, np.ndarray]) -> None:
    image, soft = square
    large = image.repeat(10, axis=0).repeat(10, axis=1)
    index = draw(large, soft, replace(DEMO, crf_max_side=48))
    assert index.shape == (480, 480)
    assert ((index == 1) == (large[..., 0] == 220)).mean() > 0.99


def test_nothing_to_draw(square: tuple[np.ndarray, np.ndarray]) -> None:
    assert not draw(square[0], square[1][:0], DEMO).any()


def test_marginals_sum_to_one(square: tuple[np.ndarray, np.ndarray]) -> None:
    image, _ = square
    marginals = refine(image, np.full((2, 48, 48), 0.3, np.float32), DEMO)
    assert marginals.shape == (3, 48, 48)
    np.testing.assert_allclose(marginals.sum(axis=0), 1, atol=1e-4)


def test_background_is_what_no_map_claims() -> None:
    maps = np.array([[[0.25]], [[0.5]]], np.float32)
    np.testing.assert_allclose(with_background(maps, 2.0).ravel(), [0.25, 0.25, 0.5])


def test_the_released_codes_picture_wraps() -> None:
    image = np.array([[[122, 117, 110], [130, 120, 104]]], np.uint8)  # RGB
    # BGR less (104.008, 116.669, 122.675), cut towards zero: the reds are -0.675 and 7.325
    np.testing.assert_array_equal(wrapped(image), [[[5, 0, 0], [0, 3, 7]]])
    assert wrapped(np.zeros((1, 1, 3), np.uint8)).tolist() == [[[256 - 104, 256 - 116, 256 - 122]]]


def test_specks_go_to_the_background() -> None:
    marginals = np.zeros((2, 10, 10), np.float32)
    marginals[1, 0:4, 0:4] = 1
    marginals[1, 8, 8] = 1
    marginals[0] = 1 - marginals[1]
    cleaned = without_specks(marginals, 0.05).argmax(axis=0)
    assert cleaned.sum() == 16
    assert cleaned[8, 8] == 0
    assert without_specks(marginals, 0.0).argmax(axis=0)[8, 8] == 1
