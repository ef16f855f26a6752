"""What is said about scenes: names in templates, words for what is not there, captions, referring expressions."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from model.demo.world import COLORS, concepts, grounds
from model.texts import BACKGROUNDS

TEMPLATES = (
    "{}",
    "{}",
    "a photo of a {}",
    "a photo of a {}.",
    "a photo of the {}",
    "a picture of a {}",
    "a clean origami {}.",
    "an image of a {} in the scene",
    "there is a {}",
    "the {}",
    "many {}",
)
OPENINGS = ("a photo of ", "a picture of ", "", "there is ", "an image of ")
# What things are called together.
KINDS = {
    "animal": "animal",
    "swimmer": "sea animal",
    "vehicle": "vehicle",
    "food": "food",
    "plant": "plant",
    "landmark": "building",
    "place": "building",
    "brand": "logo",
}
SIDES = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
SIZES = {"large": "small", "small": "large"}


@cache
def vocabulary() -> dict[str, frozenset[int]]:
    """Return of each known text the classes it names: concepts by number, then grounds."""
    named: dict[str, set[int]] = {}
    for number, concept in enumerate(concepts()):
        for word in concept.words:
            named.setdefault(word, set()).add(number)
    for number, words in enumerate(grounds().values(), start=len(concepts())):
        for word in words:
            named.setdefault(word, set()).add(number)
    return {word: frozenset(numbers) for word, numbers in named.items()}


@cache
def classes() -> tuple[tuple[str, ...], ...]:
    """Return the words of every class: concepts, then grounds."""
    return (*(concept.words for concept in concepts()), *grounds().values())


@cache
def foreign() -> tuple[str, ...]:
    """Return words that name nothing of the demo world: from the lists of the method."""
    listed = (Path(__file__).parent.parent / "rivals.txt").read_text(encoding="utf-8").replace("/", "\n").splitlines()
    words = {*listed, *BACKGROUNDS["paper"], *BACKGROUNDS["released"]}
    known = {part for text in vocabulary() for part in text.split()} | set(KINDS.values())
    return tuple(sorted(word for word in words if word and not known & set(re.findall("[a-z]+", word))))


def named(number: int, rng: random.Random) -> str:
    """Name a class: mostly by its first word."""
    words = classes()[number]
    return words[0] if number < len(concepts()) and rng.random() < 0.65 else rng.choice(words)


def absent(rng: random.Random, count: int) -> list[str]:
    """Say `count` texts that fit no scene: foreign words, and some that do not exist."""
    texts = []
    for _ in range(count):
        word = rng.choice(foreign())
        if rng.random() < 0.25:
            word = "".join(rng.choice("bcdfglmnprstv") + rng.choice("aeiou") for _ in range(rng.randint(2, 4)))
        texts.append(rng.choice(TEMPLATES).format(word))
    return texts


def caption(seen: Sequence[int], behind: Sequence[int], rng: random.Random) -> str:
    """Describe a scene: some of its concepts, maybe a ground (class numbers)."""
    said = list(seen)
    rng.shuffle(said)
    if len(said) > 1 and rng.random() < 0.3:
        said = said[: rng.randint(1, len(said))]
    parts = [("the " if concepts()[one].kind == "landmark" else "a ") + named(one, rng) for one in said]
    text = " and ".join(parts) if len(parts) < 3 else ", ".join(parts[:-1]) + " and " + parts[-1]
    if behind and rng.random() < 0.7:
        text += rng.choice((" on ", " in front of ", " and ")) + named(rng.choice(list(behind)), rng)
    return rng.choice(OPENINGS) + text


@dataclass(frozen=True)
class Seen:
    """What can be said about one object. side: (left or right or "", top or bottom or ""); size: large, small or ""."""

    concept: int
    color: str | None
    side: tuple[str, str]
    size: str
    ground: int | None


@dataclass(frozen=True)
class Expression:
    """What a referring expression claims; what is empty or None is not claimed. kind: instead of the concept's name."""

    concept: int | None = None
    kind: str = ""
    color: str = ""
    side: str = ""
    size: str = ""
    ground: int | None = None

    def text(self, rng: random.Random) -> str:
        """Say it."""
        noun = named(self.concept, rng) if self.concept is not None else self.kind
        words = " ".join(word for word in (self.size, self.color, noun) if word)
        where = ""
        if self.side:
            where = f" on the {self.side}" if self.side in ("left", "right") else f" at the {self.side}"
        if self.ground is not None:
            where += f" on the {classes()[self.ground][0]}"
        return f"the {words}{where}"

    def fits(self, seen: Seen) -> bool | None:
        """Return whether it is true of an object, or None where that cannot be told."""
        unsure = False
        if self.concept is not None and self.concept != seen.concept:
            if not set(classes()[self.concept]) & set(classes()[seen.concept]):
                return False
            unsure = True  # they share a name
        if self.kind and KINDS.get(concepts()[seen.concept].kind) != self.kind:
            return False
        if self.color and seen.color != self.color:
            if seen.color is not None:
                return False
            unsure = True
        for claim, facts in ((self.side, seen.side), (self.size, (seen.size,))):
            opposite = {**SIDES, **SIZES}.get(claim)
            if opposite in facts:
                return False
            unsure |= bool(claim) and claim not in facts
        if self.ground is not None and self.ground != seen.ground:
            if seen.ground is not None:
                return False
            unsure = True
        return None if unsure else True


def refer(seen: Seen, rng: random.Random) -> Expression:
    """Say something true of an object, by what can be said of it."""
    kind = KINDS.get(concepts()[seen.concept].kind, "")
    base = Expression(kind=kind) if kind and rng.random() < 0.2 else Expression(concept=seen.concept)
    choices = [replace(base, side=side) for side in seen.side if side]
    if seen.size:
        choices.append(replace(base, size=seen.size))
    if seen.ground is not None:
        choices.append(replace(base, ground=seen.ground))
    if seen.color:
        colored = replace(base, color=seen.color)
        choices += [colored] * 4 + [replace(colored, side=side) for side in seen.side if side]
    return rng.choice(choices or [base])


def twisted(said: Expression, rng: random.Random) -> Expression:
    """Make it false in one point: another colour, the other side or size, another ground or thing."""
    ways: list[Expression] = []
    if said.color:
        ways += [replace(said, color=rng.choice([color for color in COLORS if color != said.color]))] * 2
    if said.side:
        ways.append(replace(said, side=SIDES[said.side]))
    if said.size:
        ways.append(replace(said, size=SIZES[said.size]))
    if said.ground is not None:
        others = range(len(concepts()), len(classes()))
        ways.append(replace(said, ground=rng.choice([other for other in others if other != said.ground])))
    if not ways:
        ways.append(replace(said, kind="", concept=rng.randrange(len(concepts()))))
    return rng.choice(ways)
