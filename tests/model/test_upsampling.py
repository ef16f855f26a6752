import cv2
import numpy as np
import pytest

from model.sizes import paint
from model.upsampling import guided, nearest


def disk(side: int) -> np.ndarray:
    y, x = np.mgrid[:side, :side] + 0.5
    return np.hypot(x - side * 0.53, y - side * 0.49) < side * 0.31


@pytest.fixture
def picture() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A bright disk on dark, slightly noisy ground; where it is; and its marginals at an eighth of the size."""
    truth = disk(480)
    noise = np.random.default_rng(0).integers(0, 12, (480, 480, 3))
    image = (np.where(truth[..., None], (230, 200, 40), (20, 60, 90)) + noise).astype(np.uint8)
    drawn = (cv2.resize(truth.astype(np.float32), (60, 60), interpolation=cv2.INTER_AREA) > 0.5).astype(np.float32)
    return image, truth, np.stack([1 - drawn, drawn])


def test_guided_edges_are_those_of_the_full_image(picture: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    image, truth, marginals = picture
    wrong = {
        "nearest": (nearest(marginals, truth.shape) != truth).sum(),
        "linear": (paint(marginals, truth.shape) != truth).sum(),
        "guided": (guided(marginals, image) != truth).sum(),
    }
    assert wrong["guided"] < wrong["linear"] / 4
    assert wrong["linear"] < wrong["nearest"]


def test_nearest_by_hand() -> None:
    marginals = np.array([[[1, 0.2]], [[0, 0.8]]], np.float32)
    np.testing.assert_array_equal(nearest(marginals, (2, 4)), [[0, 0, 1, 1], [0, 0, 1, 1]])


@pytest.mark.parametrize("shape", [(1, 1), (3, 700), (700, 3), (600, 333)])
def test_any_size(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 90, np.uint8)
    marginals = np.zeros((3, max(1, shape[0] // 3), max(1, shape[1] // 3)), np.float32)
    marginals[2] = 1
    assert (guided(marginals, image) == 2).all()
    assert (nearest(marginals, shape) == 2).all()


def test_bands_leave_no_seam(
    picture: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, _, marginals = picture
    whole = guided(marginals, image)
    monkeypatch.setattr("model.upsampling.BAND", 37)
    assert (guided(marginals, image) != whole).mean() < 1e-4


def test_a_label_far_from_another_does_not_change_it(picture: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    image, _, marginals = picture
    image[:35, :35] = 250, 250, 250
    more = np.concatenate([marginals, np.zeros((1, 60, 60), np.float32)])
    more[0, :4, :4], more[2, :4, :4] = 0, 1
    alone, both = guided(marginals, image), guided(more, image)
    np.testing.assert_array_equal(both[120:], alone[120:])
    corner = np.zeros(both.shape, bool)
    corner[:35, :35] = True
    assert ((both == 2) != corner).sum() <= 35, "the edge lies where the image has it, not at a multiple of eight"
