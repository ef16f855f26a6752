import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_dilation
from skimage.morphology import disk

from model.benchmarks.boundary import boundary_f, contour


def drawn(*rows: str) -> np.ndarray:
    return np.array([[pixel == "#" for pixel in row] for row in rows])


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (drawn("....", ".##.", ".##.", "...."), drawn("###.", "#.#.", "###.", "....")),
        (drawn("#...", "....", "....", "...."), drawn("#...", "....", "....", "....")),
        (drawn("....", "....", "....", "...#"), drawn("....", "....", "..##", "..#.")),
        (drawn("##..", "##..", "##..", "##.."), drawn(".#..", ".#..", ".#..", ".#..")),
        (drawn("####", "####"), drawn("....", "....")),
    ],
    ids=["square", "first corner", "last corner", "half", "whole"],
)
def test_contour(mask: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(contour(mask), expected)


def square(left: int, size: int = 100) -> np.ndarray:
    """A square of 20 pixels, 30 from the top, `left` pixels from the left."""
    mask = np.zeros((size, size), bool)
    mask[30:50, left : left + 20] = True
    return mask


@pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (1, 1.0), (2, 1.0), (40, 0.0)])
def test_contours_may_miss_by_two_pixels(shift: int, expected: float) -> None:
    """The diagonal is 141 pixels; 0.8 % of it is 1.13, rounded up 2."""
    assert boundary_f(square(30), square(30 + shift)) == expected


def test_three_pixels_are_too_far() -> None:
    """Shifted by 3 to the side only the upper and lower edges meet, each but for one pixel: of 80 contour pixels 40.

    An edge has 21 pixels; of one that is 3 ahead of the other the first 19 or the last 19 lie within reach (of which
    the corner belongs to the upper or lower edge), and of the sides no more.
    """
    one, other = square(30), square(33)
    assert contour(one).sum() == 80
    near = binary_dilation(contour(one), disk(2))
    share = (contour(other) & near).sum() / 80
    assert 0.4 < share < 0.6
    assert boundary_f(one, other) == pytest.approx(share)


def test_precision_and_recall_are_of_contours() -> None:
    """Half of what is there is found, exactly: precision 1, recall 1/2, so F is 2/3."""
    both = square(5) | square(60)
    assert boundary_f(both, square(5)) == pytest.approx(2 * 1 * 0.5 / 1.5)


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"), [(False, False, 1.0), (True, False, 0.0), (False, True, 0.0)]
)
def test_empty_masks(truth: bool, prediction: bool, expected: float) -> None:
    nothing, something = np.zeros((100, 100), bool), square(30)
    assert boundary_f(something if truth else nothing, something if prediction else nothing) == expected


masks = arrays(bool, (12, 15))


@given(masks, masks, st.sampled_from([0.05, 0.1, 0.2]))
def test_as_the_definition_with_a_disk(truth: np.ndarray, prediction: np.ndarray, tolerance: float) -> None:
    """DAVIS dilates with a disk; here distances are taken. The same, and symmetric."""
    radius = int(np.ceil(tolerance * np.hypot(12, 15)))
    real, found = contour(truth), contour(prediction)
    if real.any() and found.any():
        precision = (found & binary_dilation(real, disk(radius))).sum() / found.sum()
        recall = (real & binary_dilation(found, disk(radius))).sum() / real.sum()
        expected = 2 * precision * recall / (precision + recall) if precision + recall else 0
        assert boundary_f(truth, prediction, tolerance) == pytest.approx(expected)
    assert boundary_f(truth, prediction, tolerance) == boundary_f(prediction, truth, tolerance)
    assert boundary_f(truth, truth, tolerance) == 1
