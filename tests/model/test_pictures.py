from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from model.car import Step
from model.pictures import PictureError, index_map, overlay, read_image, write
from model.segmentation import Segmentation


def result(labels: tuple[str, ...], masks: np.ndarray) -> Segmentation:
    scores = np.full(len(labels), 0.5, np.float32)
    raw = dict.fromkeys(labels, 0.5)
    return Segmentation(labels, masks, scores, raw, (Step(labels, (0.5,) * len(labels)),), {"total": 1.0})


def rgba() -> Pillow.Image:
    return Pillow.new("RGBA", (3, 2), (10, 20, 30, 0))


def palette() -> Pillow.Image:
    return Pillow.new("RGB", (3, 2), (10, 20, 30)).quantize()


def sixteen_bit() -> Pillow.Image:
    return Pillow.fromarray(np.full((2, 3), 257 * 40, np.uint16))


@pytest.mark.parametrize(
    ("make", "suffix", "colour"),
    [
        (lambda: Pillow.new("RGB", (3, 2), (10, 20, 30)), "png", [10, 20, 30]),
        (lambda: Pillow.new("L", (3, 2), 40), "png", [40, 40, 40]),
        (lambda: Pillow.new("1", (3, 2), 1), "png", [255, 255, 255]),
        (lambda: Pillow.new("CMYK", (3, 2), (0, 0, 0, 0)), "jpg", [255, 255, 255]),
        (rgba, "png", [255, 255, 255]),
        (palette, "png", [10, 20, 30]),
        (sixteen_bit, "png", [40, 40, 40]),
    ],
)
def test_kinds_of_images(tmp_path: Path, make: Callable[[], Pillow.Image], suffix: str, colour: list[int]) -> None:
    path = tmp_path / f"image.{suffix}"
    make().save(path)
    image = read_image(path)
    assert image.shape == (2, 3, 3)
    assert image.dtype == np.uint8
    assert image[0, 0].tolist() == colour


def test_exif_turns(tmp_path: Path) -> None:
    picture = Pillow.new("RGB", (3, 2))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (3, 2, 3)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n broken"])
def test_no_image(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(PictureError, match=r"x\.png cannot be read"):
        read_image(tmp_path / "x.png")


def test_index_map_counts_in_the_vocabularys_order() -> None:
    masks = np.array([[[True, False, False]], [[False, False, True]]])
    index = index_map(result(("dog", "cat"), masks), ["cat", "owl", "dog"])
    np.testing.assert_array_equal(index, [[3, 0, 1]])


def test_overlay_tints_only_what_is_found() -> None:
    image = np.full((20, 20, 3), 100, np.uint8)
    index = np.zeros((20, 20), np.uint16)
    index[5:15, 5:15] = 2
    tinted = overlay(image, index, 2)
    assert (tinted[0, 0] == 100).all()
    assert (tinted[10, 10] != 100).any()
    assert image[10, 10].tolist() == [100] * 3


def test_more_labels_than_a_palette_holds(tmp_path: Path) -> None:
    labels = [f"label {i}" for i in range(300)]
    masks = np.ones((1, 2, 2), bool)
    write(result(("label 299",), masks), np.zeros((2, 2, 3), np.uint8), labels, tmp_path, "many")
    with Pillow.open(tmp_path / "many.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.full((2, 2), 300))
    write(result(("label 3",), masks), np.zeros((2, 2, 3), np.uint8), labels[:254], tmp_path, "few")
    with Pillow.open(tmp_path / "few.png") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), np.full((2, 2), 4))
