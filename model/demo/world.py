"""What there is in the demo world: concepts with their words, and grounds with theirs.

`world.tsv` lists the concepts; the first 140 are those of the first weights, in the same order.
"""

import csv
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
# Hues in degrees that a coloured sprite is turned to.
COLORS = {"red": 0, "orange": 28, "yellow": 52, "green": 125, "blue": 215, "purple": 282}


@dataclass(frozen=True)
class Concept:
    """A thing of the demo world.

    words: its name, then synonyms. kind: food, animal, swimmer, flyer, vehicle, boat, landmark, place, plant, heaven,
    person, thing or brand. source: `emoji:HEX+HEX` (one drawing each), `icon:SLUG` of simple-icons, `drawn:NAME` of
    `landmarks`. tints: whether it comes in the six COLORS.
    """

    name: str
    words: tuple[str, ...]
    kind: str
    source: str
    tints: bool


@cache
def concepts() -> tuple[Concept, ...]:
    """Return all concepts, in the order of their numbers."""
    with (HERE / "world.tsv").open(encoding="utf-8", newline="") as file:
        return tuple(
            Concept(
                row["name"],
                (row["name"], *(word for word in row["synonyms"].split(",") if word)),
                row["kind"],
                row["source"],
                row["colours"] == "tints",
            )
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        )


@cache
def grounds() -> dict[str, tuple[str, ...]]:
    """Return the words of each ground."""
    words: dict[str, list[str]] = json.loads((HERE / "grounds.json").read_text(encoding="utf-8"))
    return {name: tuple(names) for name, names in words.items()}
