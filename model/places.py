"""Where in a picture a sentence says that something is: CLIP does not know left from right, so these words are ours.

Imports without torch.
"""

import re
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

SIDES = {
    "left": (0.0, 0.5),
    "right": (1.0, 0.5),
    "top": (0.5, 0.0),
    "bottom": (0.5, 1.0),
    "middle": (0.5, 0.5),
}
"""Where a side is: (x, y), as shares of the width and height."""
_WORDS = {"upper": "top", "lower": "bottom", "center": "middle", "centre": "middle", "central": "middle"}
_NAMES = "left|right|top|bottom|middle|upper|lower|center|centre|central"
_AFTER = re.compile(rf"[\s,]+(?:(?:on|in|at|to)\s+)?(?:the\s+)?(?:far\s+|very\s+)?({_NAMES})(?:\s+side)?[\s.]*$")
_BEFORE = re.compile(rf"^((?:the|a|an)\s+)?({_NAMES})(?:most)?\s+")
SMALL = 0.1
"""Share of the largest part that a part needs to count as an object."""


@dataclass(frozen=True)
class Placed:
    """A sentence without its place, and the side (of `SIDES`) that it named, if any."""

    text: str
    side: str = ""


def placed(sentence: str) -> Placed:
    """Take a place at the end or the beginning out of a sentence: "the cup on the left", "the leftmost cup"."""
    plain = sentence.strip()
    after = _AFTER.search(plain.lower())
    if after and plain[: after.start()].strip().lower() not in ("", "the", "a", "an"):
        return Placed(plain[: after.start()].strip(), _side(after[1]))
    before = _BEFORE.search(plain.lower())
    if before:
        return Placed(((before[1] or "") + plain[before.end() :]).strip(), _side(before[2]))
    return Placed(plain)


def part_at(mask: Mask, side: str) -> Mask:
    """Return the part of a mask [H, W] whose centre is nearest to a side; without a side all of it, as with one part.

    Left and right look at x alone, top and bottom at y alone, the middle at both.
    """
    found, parts, stats, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if not side or found < 3:
        return mask
    areas = stats[1:, cv2.CC_STAT_AREA]
    weights = np.array([side not in ("top", "bottom"), side not in ("left", "right")], float)
    away = np.abs(centres[1:] / mask.shape[::-1] - SIDES[side]) @ weights
    return np.asarray(parts == 1 + int(np.where(areas >= SMALL * areas.max(), away, np.inf).argmin()))


def _side(word: str) -> str:
    return _WORDS.get(word, word)
