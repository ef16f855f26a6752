from __future__ import annotations

import pytest

from backend.words import duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 s"),
        (0.4, "0 s"),
        (40, "40 s"),
        (119, "119 s"),
        (119.6, "2 min"),
        (720, "12 min"),
        (3600, "60 min"),
        (7199, "2.0 h"),
        (11_520, "3.2 h"),
        (200_000, "2.3 d"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
