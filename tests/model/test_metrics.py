import numpy as np
import pytest

from model.benchmarks.metrics import confusion, quality


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


def test_nothing_to_measure() -> None:
    assert quality(np.zeros((2, 2), np.int64)).miou == 0
