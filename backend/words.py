"""Figures as people say them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds as people say them: 40 s, 12 min, 3.2 h, 2.1 d; a negative time is none."""
    for unit, size, limit, digits in (("s", 1, 119.5, 0), ("min", 60, 7170, 0), ("h", 3600, 172_800, 1)):
        if seconds < limit:
            return f"{max(seconds, 0) / size:.{digits}f} {unit}"
    return f"{seconds / 86_400:.1f} d"
