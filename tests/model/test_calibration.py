import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.benchmarks.calibration import Bin, Finding, calibration_error, reliability


def test_a_table_of_bins() -> None:
    findings = [Finding(0.1, False, 0.0), Finding(0.9, True, 0.4), Finding(1.0, True, 0.5), Finding(0.95, False, 0.0)]
    low, high = reliability(findings, bins=2)
    assert low == Bin(0.0, 0.5, 1, 0.1, 0.0, 0.0)
    assert (high.low, high.high, high.count) == (0.5, 1.0, 3)
    assert (high.score, high.present, high.drawn) == pytest.approx((0.95, 2 / 3, 1 / 3))
    assert calibration_error([low, high]) == pytest.approx((0.1 + 3 * (0.95 - 2 / 3)) / 4)


def test_nothing_found() -> None:
    assert reliability([]) == []
    assert calibration_error([]) is None


@given(st.lists(st.builds(Finding, st.floats(0, 1), st.booleans(), st.floats(0, 1))), st.integers(1, 12))
def test_each_finding_is_in_one_bin(findings: list[Finding], bins: int) -> None:
    table = reliability(findings, bins)
    assert sum(row.count for row in table) == len(findings)
    assert all(row.low - 1e-9 <= row.score <= row.high + 1e-9 for row in table)
    error = calibration_error(table)
    assert (error is None) == (findings == [])
    assert error is None or 0 <= error <= 1
