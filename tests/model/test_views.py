"""Views of prompted pictures; torch makes the same ones as Pillow, to the bit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.pictures import read_image
from model.prompts import Prompter
from model.views import by_pillow, by_torch, center_crop, cut_out, letterbox, views


def test_crop_and_letterbox() -> None:
    image = torch.zeros(1, 40, 80, 3, dtype=torch.uint8)
    image[:, :, :10] = 255
    assert center_crop(image, 20).max() == 0
    boxed = letterbox(image, 20)[0]
    assert boxed.shape == (20, 20, 3)
    assert (boxed[0] == boxed[0, 0]).all()
    assert boxed[10, 0, 0] > 200


def test_each_letterbox_has_its_own_colour() -> None:
    pictures = torch.stack([torch.full((10, 20, 3), level, dtype=torch.uint8) for level in (7, 200)])
    boxed = letterbox(pictures, 8)
    assert [int(one.min()) for one in boxed] == [int(one.max()) for one in boxed] == [7, 200]


@pytest.mark.parametrize(
    ("rows", "columns", "margin", "expected"),
    [
        ((4, 6), (4, 6), 0.0, (2, 2)),
        ((4, 6), (4, 6), 0.5, (4, 4)),
        ((4, 6), (3, 7), 0.5, (8, 8)),
        ((0, 2), (0, 2), 1.0, (4, 4)),
        ((0, 0), (0, 0), 0.5, (10, 12)),
    ],
)
def test_the_square_around_a_mask(
    rows: tuple[int, int], columns: tuple[int, int], margin: float, expected: tuple[int, int]
) -> None:
    picture = torch.arange(360).byte().view(10, 12, 3)
    mask = torch.zeros(10, 12, dtype=torch.bool)
    mask[slice(*rows), slice(*columns)] = True
    assert cut_out(picture, mask, margin).shape[:2] == expected


@pytest.mark.parametrize("size", [(224, 224), (224, 298), (400, 500), (3, 700), (320, 384), (1, 1), (320, 100)])
@pytest.mark.parametrize("noise", [False, True])
def test_torch_resizes_as_pillow_does(size: tuple[int, int], noise: bool, studio: Path) -> None:
    """Scenes, and noise of black and white pixels, in which every rounding shows."""
    scene = read_image(studio / "images" / "001.png")
    if noise:
        scene = np.random.default_rng(0).integers(0, 2, scene.shape).astype(np.uint8) * 255
    pictures = torch.from_numpy(np.stack([scene, scene[::-1]]))
    np.testing.assert_array_equal(by_torch(pictures, *size), by_pillow(pictures, *size))


@given(st.tuples(*[st.integers(1, 40)] * 4), st.integers(0, 9))
def test_whatever_the_sizes(sizes: tuple[int, int, int, int], seed: int) -> None:
    height, width, *target = sizes
    picture = np.random.default_rng(seed).integers(0, 256, (1, height, width, 3)).astype(np.uint8)
    pictures = torch.from_numpy(picture)
    np.testing.assert_array_equal(by_torch(pictures, *target), by_pillow(pictures, *target))


@pytest.mark.parametrize("view", ["crop", "letterbox", "squash", "object"])
def test_views_as_a_gpu_makes_them(view: str, studio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = read_image(studio / "images" / "002.png")
    mask = torch.zeros(image.shape[:2], dtype=torch.bool)
    mask[40:200, 30:90] = True
    masks = [mask, None, mask.flip(1), torch.zeros_like(mask)]
    pictures = Prompter(image, ("blur", "gray", "circle"))(masks)
    pillows = views(pictures, masks, 96, view, 0.5)
    monkeypatch.setattr("model.views.by_pillow", by_torch)
    assert pillows.shape == (4, 96, 96, 3)
    assert torch.equal(views(pictures, masks, 96, view, 0.5), pillows)
