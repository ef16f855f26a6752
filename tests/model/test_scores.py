from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.presets import PresetError, preset
from model.scores import probabilities, reported

PLAIN = replace(preset("voc"), odds_factor=1.0, odds_power=1.0)
SQUARED = replace(PLAIN, odds_factor=2.0, odds_power=2.0)


def test_a_score_by_hand() -> None:
    """Odds of 3 to 1, squared and doubled, are 18 to 1."""
    np.testing.assert_allclose(reported(np.array([0.75], np.float32), SQUARED), [18 / 19], rtol=1e-6)
    np.testing.assert_allclose(probabilities(np.array([18 / 19], np.float32), SQUARED), [0.75], rtol=1e-6)


def test_ends_stay_where_they_are() -> None:
    ends = np.array([0, 1], np.float32)
    np.testing.assert_array_equal(reported(ends, SQUARED), ends)
    np.testing.assert_array_equal(probabilities(ends, SQUARED), ends)


def test_one_and_one_leave_scores_as_they_are() -> None:
    scores = np.array([0.1, 1 / 3, np.nan, 2], np.float32)
    assert reported(scores, PLAIN) is scores
    assert probabilities(scores, PLAIN) is scores


def test_a_threshold_that_is_no_score_stays() -> None:
    """Without a threshold none is compared with; one above 1 is above every probability."""
    np.testing.assert_array_equal(probabilities(np.array([np.nan, 2, -1], np.float32), SQUARED), [np.nan, 2, -1])


@given(st.lists(st.floats(2**-10, 1 - 2**-10, width=32), min_size=2), st.floats(0.1, 10), st.floats(0.2, 5))
def test_the_order_stays_and_there_is_a_way_back(chances: list[float], factor: float, power: float) -> None:
    chosen = replace(PLAIN, odds_factor=factor, odds_power=power)
    before = np.sort(np.array(chances, np.float32))
    after = reported(before, chosen)
    assert (np.diff(after) >= 0).all()
    inside = (after > 1e-4) & (after < 1 - 1e-4)  # beyond them float32 has too few digits for the way back
    np.testing.assert_allclose(probabilities(after, chosen)[inside], before[inside], rtol=0.02, atol=1e-4)


@pytest.mark.parametrize("name", ["odds_factor", "odds_power"])
def test_curves_that_fall_or_lie_flat_are_refused(name: str) -> None:
    with pytest.raises(PresetError, match="numbers above 0"):
        preset("demo", {name: "0"})
