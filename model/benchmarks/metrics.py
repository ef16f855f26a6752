"""Intersection over union from one confusion matrix over a data set, as segmentation benchmarks count it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.integer]


def confusion(truth: Index, prediction: Index, classes: int, ignore: int) -> NDArray[np.int64]:
    """Count pixels [truth, prediction] over classes (0 = background), leaving out where truth is `ignore`."""
    seen = truth != ignore
    pairs = truth[seen].astype(np.int64) * classes + prediction[seen]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


@dataclass(frozen=True)
class Quality:
    """mIoU without and with the background class, and the IoU of each class that counts (by index, background 0)."""

    miou: float
    miou_with_background: float
    per_class: dict[int, float]


def quality(matrix: NDArray[np.int64], protocol: str = "default") -> Quality:
    """Return the IoU of a confusion matrix.

    protocol: `default` counts classes that occur in truth or prediction; `car`, the released rule, those in truth only,
    so that a class found where it never is costs only the classes it covers.
    """
    hit = np.diag(matrix)
    truth, prediction = matrix.sum(axis=1), matrix.sum(axis=0)
    counts = truth > 0 if protocol == "car" else (truth + prediction) > 0
    per_class = {int(c): float(hit[c] / (truth[c] + prediction[c] - hit[c])) for c in np.flatnonzero(counts)}
    foreground = [iou for c, iou in per_class.items() if c > 0]
    return Quality(_mean(foreground), _mean(list(per_class.values())), per_class)


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 0.0
