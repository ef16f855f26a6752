"""How probable it is that a label is in a picture, given its score: one logistic regression for all labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Presence:
    """P(label is present | score) = sigmoid(slope * logit(score) + intercept + offset of the label)."""

    slope: float
    intercept: float
    offsets: Mapping[str, float]

    def probability(self, label: str, score: float) -> float:
        """How probable a label is at a score; 0 for a score of 0, which no threshold brings back."""
        if score <= 0:
            return 0.0
        return float(_sigmoid(self.slope * _logit(score) + self.intercept + self.offsets.get(label, 0.0)))

    def threshold(self, label: str, probability: float) -> float:
        """The score at which a label is as probable as that."""
        if probability <= 0:
            return 0.0
        return float(_sigmoid((_logit(probability) - self.intercept - self.offsets.get(label, 0.0)) / self.slope))


def fit_presence(
    scores: Floats, present: Flags, labels: Sequence[str], prior: float = 1.0, steps: int = 50
) -> Presence | None:
    """Fit the probability that a label is present, given its score, by Newton's method (maximum a posteriori).

    scores, present: [T, L] for T tasks and L labels. prior: standard deviation of the labels' offsets. The slope has a
    wide prior around 1, so that a few tasks in which scores part present from absent without a mistake do not make it
    infinite. Scores of 0 say nothing and are left out; None where there is no other.
    """
    rows, columns = np.nonzero(scores > 0)
    if not len(rows):
        return None
    there = present[rows, columns].astype(float)
    features = np.zeros((len(rows), 2 + len(labels)))
    features[:, 0] = _logit(scores[rows, columns])
    features[:, 1] = 1.0
    features[np.arange(len(rows)), 2 + columns] = 1.0
    precision = np.array([1 / 3.0**2, 1 / 10.0**2, *[1 / prior**2] * len(labels)])
    centre = np.array([1.0, *[0.0] * (1 + len(labels))])
    weights = centre.copy()
    for _ in range(steps):
        probability = _sigmoid(features @ weights)
        gradient = features.T @ (there - probability) - precision * (weights - centre)
        curvature = (features.T * (probability * (1 - probability))) @ features + np.diag(precision)
        step = np.linalg.solve(curvature, gradient)
        weights = weights + step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-8:
            break
    offsets = dict(zip(labels, weights[2:].tolist(), strict=True))
    return Presence(float(weights[0]), float(weights[1]), offsets)


def _logit(value: Floats | float) -> Floats:
    clipped = np.clip(value, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _sigmoid(value: Floats | float) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(value, -30, 30))))
