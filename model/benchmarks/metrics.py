"""Intersection over union, as the papers of the field count it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.integer]
PRECISIONS = (0.5, 0.6, 0.7, 0.8, 0.9)


def confusion(truth: Index, prediction: Index, classes: int, ignore: int) -> NDArray[np.int64]:
    """Count pixels [truth, prediction] over classes (0 = background), leaving out where truth is `ignore`."""
    seen = truth != ignore
    pairs = truth[seen].astype(np.int64) * classes + prediction[seen]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


@dataclass(frozen=True)
class Quality:
    """mIoU without and with the background class, and the IoU of each class that counts (by index, background 0).

    None where no class counts.
    """

    miou: float | None
    miou_with_background: float | None
    per_class: dict[int, float]


def quality(matrix: NDArray[np.int64], protocol: str = "default", background: bool = True) -> Quality:
    """Return the IoU of a confusion matrix, which is summed over a whole data set.

    protocol: `default` counts classes that occur in truth or prediction; `car`, the released rule, those in truth only,
    so that a class found where it never is costs only the classes it covers. background: False where it is no class:
    a pixel left empty is then missed, but by the released rule it does not count at all; both mIoU are the same.
    """
    hit = np.diag(matrix)
    truth, prediction = matrix.sum(axis=1), matrix.sum(axis=0)
    if not background and protocol == "car":
        truth = truth - matrix[:, 0]
    counts = truth > 0 if protocol == "car" else (truth + prediction) > 0
    counts[0] &= background
    per_class = {int(c): float(hit[c] / (truth[c] + prediction[c] - hit[c])) for c in np.flatnonzero(counts)}
    foreground = [iou for c, iou in per_class.items() if c > 0]
    return Quality(mean(foreground), mean(list(per_class.values())), per_class)


@dataclass(frozen=True)
class Referring:
    """Over the objects that sentences describe: the mean IoU, the overall IoU, and how many exceed each IoU.

    oiou: all pixels of intersection by all of union, so that large objects weigh more. precision: shares by least IoU.
    None where there is no object, or none of them has a pixel.
    """

    miou: float | None
    oiou: float | None
    precision: dict[float, float | None]


def referring(overlaps: Sequence[tuple[int, int]]) -> Referring:
    """Return the figures of objects whose masks have these intersections and unions, in pixels."""
    ious = [jaccard(*overlap) for overlap in overlaps]
    inside, union = sum(i for i, _ in overlaps), sum(u for _, u in overlaps)
    return Referring(
        miou=mean(ious),
        oiou=inside / union if union else None,
        precision={least: mean([float(iou > least) for iou in ious]) for least in PRECISIONS},
    )


def overlap(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> tuple[int, int]:
    """Return intersection and union of two masks [H, W], in pixels."""
    return int((truth & prediction).sum()), int((truth | prediction).sum())


def jaccard(intersection: int, union: int) -> float:
    """Return the IoU, which is DAVIS's region similarity J; of two empty masks it is 1, as there."""
    return intersection / union if union else 1.0


def mean(values: Sequence[float]) -> float | None:
    """Return the mean, None of nothing."""
    return float(np.mean(values)) if values else None


def shown(figure: float | None) -> str:
    """Write a figure with three digits, or `none` where nothing was measured."""
    return "none" if figure is None else f"{figure:.3f}"
