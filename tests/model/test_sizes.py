import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from model.sizes import bounded, enlarge, paint


@pytest.mark.parametrize(
    ("size", "most", "expected"),
    [
        ((320, 384), 1200, (320, 384)),
        ((320, 384), 0, (320, 384)),
        ((1, 1), 1, (1, 1)),
        ((100_000, 100_000), 4, (32, 32)),
        ((17, 16), 1, (16, 15)),
    ],
)
def test_bounded(size: tuple[int, int], most: int, expected: tuple[int, int]) -> None:
    assert bounded(*size, 16, most) == expected


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.integers(1, 2_000))
def test_bounded_keeps_the_bound_and_never_enlarges(height: int, width: int, most: int) -> None:
    h, w = bounded(height, width, 16, most)
    assert 1 <= h <= height
    assert 1 <= w <= width
    assert -(-h // 16) * -(-w // 16) <= most


def test_enlarge() -> None:
    maps = np.array([[[0, 1]]], np.float32)
    np.testing.assert_allclose(enlarge(maps, 1, 4), [[[0, 0.25, 0.75, 1]]])


@pytest.mark.parametrize("size", [(375, 500), (9, 11), (5, 4)])
def test_opencv_enlarges_maps_as_torch_does_for_the_masks_that_are_scored(size: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).random((2, 9, 11), np.float32)
    ours = F.interpolate(torch.from_numpy(maps)[None], size=size, mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(enlarge(maps, *size), ours, atol=2e-6)


def test_paint_at_the_same_size_is_argmax() -> None:
    marginals = np.random.default_rng(0).random((3, 5, 7)).astype(np.float32)
    np.testing.assert_array_equal(paint(marginals, (5, 7)), marginals.argmax(axis=0))


def test_paint_enlarges_without_a_seam_between_bands() -> None:
    marginals = np.zeros((2, 60, 40), np.float32)
    marginals[1, :, 20:] = 1
    marginals[0] = 1 - marginals[1]
    index = paint(marginals, (600, 400))
    assert (index[:, :200] == 0).all()
    assert (index[:, 200:] == 1).all()


def test_paint_equals_resizing_each_map() -> None:
    marginals = np.random.default_rng(0).random((3, 9, 11)).astype(np.float32)
    expected = enlarge(marginals, 300, 310).argmax(axis=0)
    assert (paint(marginals, (300, 310)) == expected).mean() > 0.99
