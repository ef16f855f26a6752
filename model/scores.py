"""From probabilities to the scores that people see: odds times a factor, to a power (Platt's calibration, two numbers).

The recurrence compares probabilities; only what is reported, and what is compared with a person's threshold, goes
through here. The curve rises everywhere: it changes neither a mask nor an order.
"""

import numpy as np
from numpy.typing import NDArray

from model.settings import Preset


def reported(probabilities: NDArray[np.float32], preset: Preset) -> NDArray[np.float32]:
    """Return the scores that stand for probabilities, both of any shape and in 0..1: 0 stays 0, 1 stays 1."""
    if preset.odds_factor == preset.odds_power == 1:
        return probabilities
    with np.errstate(divide="ignore"):
        odds = preset.odds_factor * _odds(probabilities) ** preset.odds_power
        return (1 / (1 + 1 / odds)).astype(np.float32)


def probabilities(scores: NDArray[np.float32], preset: Preset) -> NDArray[np.float32]:
    """Return the probabilities that scores stand for; what is no score (nan, beyond 0..1) stays as it is."""
    if preset.odds_factor == preset.odds_power == 1:
        return scores
    inside = (scores >= 0) & (scores <= 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = (_odds(scores.clip(0, 1)) / preset.odds_factor) ** (1 / preset.odds_power)
        return np.where(inside, 1 / (1 + 1 / odds), scores).astype(np.float32)


def _odds(chances: NDArray[np.float32]) -> NDArray[np.float64]:
    exact = chances.astype(np.float64)
    return np.asarray(exact / (1 - exact))
