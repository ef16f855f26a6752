import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, jaccard_score

from model.benchmarks.metrics import confusion, jaccard, mean, overlap, quality, referring, shown


def test_confusion_leaves_out_what_is_ignored() -> None:
    truth = np.array([[0, 1, 255], [2, 2, 1]], np.uint8)
    prediction = np.array([[0, 2, 1], [2, 2, 1]], np.uint16)
    np.testing.assert_array_equal(confusion(truth, prediction, 3, 255), [[1, 0, 0], [0, 1, 1], [0, 0, 2]])


MATRIX = np.array([[6, 2, 0, 1], [1, 3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])  # 2 never occurs, 3 is only found


@pytest.mark.parametrize(
    ("protocol", "classes", "miou", "with_background"),
    [("default", {0, 1, 3}, (0.5 + 0) / 2, (0.6 + 0.5 + 0) / 3), ("car", {0, 1}, 0.5, (0.6 + 0.5) / 2)],
)
def test_which_classes_count(protocol: str, classes: set[int], miou: float, with_background: float) -> None:
    figures = quality(MATRIX, protocol)
    assert set(figures.per_class) == classes
    assert figures.miou == pytest.approx(miou)
    assert figures.miou_with_background == pytest.approx(with_background)


@pytest.mark.parametrize(("protocol", "first"), [("default", 6 / 10), ("car", 6 / 8)])
def test_without_background(protocol: str, first: float) -> None:
    """Two of class 1's ten pixels were left empty: by default they are missed, by the released rule they vanish."""
    figures = quality(np.array([[0, 0, 0], [2, 6, 2], [0, 0, 5]]), protocol, background=False)
    assert figures.per_class == pytest.approx({1: first, 2: 5 / 7})
    assert figures.miou == figures.miou_with_background == pytest.approx((first + 5 / 7) / 2)


def test_nothing_to_measure() -> None:
    figures = quality(np.zeros((2, 2), np.int64))
    assert (figures.miou, figures.miou_with_background, figures.per_class) == (None, None, {})
    assert referring([]).miou is referring([]).oiou is None
    assert set(referring([]).precision.values()) == {None}
    assert referring([(0, 0)]).oiou is None, "an object without a pixel, where none was drawn"
    assert shown(mean([])) == "none"
    assert shown(mean([0.5])) == "0.500"


@pytest.mark.parametrize("seed", range(5))
def test_as_scikit_learn_counts(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, prediction = random.integers(0, 6, (2, 30, 40))
    truth[truth == 5] = 255
    prediction[prediction == 5] = 0
    seen = truth != 255
    matrix = confusion(truth, prediction, 5, 255)
    np.testing.assert_array_equal(matrix, confusion_matrix(truth[seen], prediction[seen], labels=range(5)))
    theirs = jaccard_score(truth[seen], prediction[seen], labels=range(5), average=None)
    assert list(quality(matrix).per_class.values()) == pytest.approx(theirs)
    assert quality(matrix).miou_with_background == pytest.approx(theirs.mean())
    one, other = random.random((2, 20, 20)) < 0.4
    assert jaccard(*overlap(one, other)) == pytest.approx(jaccard_score(one.ravel(), other.ravel()))


def test_a_set_is_more_than_the_mean_of_its_images() -> None:
    """IoU over the set: 1 + 8 pixels hit of 2 + 16, not the mean of the images' IoU."""
    first, second = np.array([[0, 0], [1, 1]]), np.array([[0, 0], [8, 8]])
    assert quality(first + second).per_class[1] == pytest.approx(9 / 18)


def test_referring() -> None:
    """A small object drawn well and a large one drawn badly: the mean is over objects, the overall over pixels."""
    figures = referring([(9, 10), (30, 100), (0, 10)])
    assert figures.miou == pytest.approx((0.9 + 0.3 + 0) / 3)
    assert figures.oiou == pytest.approx(39 / 120)
    assert figures.precision == pytest.approx({0.5: 1 / 3, 0.6: 1 / 3, 0.7: 1 / 3, 0.8: 1 / 3, 0.9: 0})


def test_two_empty_masks_agree() -> None:
    nothing = np.zeros((2, 2), bool)
    assert jaccard(*overlap(nothing, nothing)) == 1
    assert jaccard(*overlap(nothing, ~nothing)) == 0
