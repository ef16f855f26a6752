"""Scenes for the demo projects: landmarks behind, brands as signs, animals and things in front, all on the ground.

What is farther stands higher and is smaller, its shadow lies at its foot; the sun and what flies are in the sky. In the
second project things of one kind in several colours stand together: "red car" is one of them.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from model.demo.grounds import Canvas, Texture, joined
from model.demo.scenes import Place, Scene, Style, render
from model.demo.sprites import Atlas, atlas, read
from model.demo.world import HERE, Concept, concepts

VOCABULARY = (
    "statue of liberty",
    "tokyo tower",
    "moai",
    "castle",
    "mount fuji",
    "ferris wheel",
    "coca cola logo",
    "starbucks logo",
    "spotify logo",
    "mcdonalds logo",
    "firefox logo",
    "cat",
    "dog",
    "elephant",
    "giraffe",
    "car",
    "bus",
    "hamburger",
    "umbrella",
    "balloon",
)
# What comes in colours, stands or flies.
COLORED = tuple(concept.name for concept in concepts() if concept.tints and concept.kind not in ("swimmer", "heaven"))
# What may lie before what, by ground: behind, in front.
VIEWS = (
    ("sky", "grass"),
    ("sky", "sand"),
    ("sky", "water"),
    ("sky", "snow"),
    ("sky", "road"),
    ("sunset", "sand"),
    ("sunset", "grass"),
    ("sunset", "water"),
    ("night", "snow"),
    ("night", "road"),
)
# Sizes as shares of the height, at the near edge of the ground.
SIZES = {"landmark": 0.72, "brand": 0.26, "animal": 0.42, "vehicle": 0.4, "food": 0.24, "thing": 0.34, "flyer": 0.26}
TALLER = {"giraffe": 1.35, "elephant": 1.15, "umbrella": 0.9}


@cache
def drawings() -> Atlas:
    """Return the drawings that the shipped weights were trained on."""
    return read(HERE / "atlas.webp", HERE / "atlas.tsv", styles=("noto", "plate"))


def compose(seed: tuple[int, ...], canvas: Canvas, style: Style) -> Scene:
    """Draw one scene: a landmark or two, then two or three others."""
    rng = canvas.rng
    backdrop = _backdrop(canvas, VIEWS)
    landmarks = [name for name in VOCABULARY if _named(name).kind == "landmark"]
    others = [name for name in VOCABULARY if name not in landmarks]
    behind = list(rng.choice(landmarks, int(rng.integers(1, 3)), replace=False))
    front = list(rng.choice(others, int(rng.integers(2, 4)), replace=False))
    return _composed(seed, rng, style, backdrop, behind, front, drawings())


def compose_colored(seed: tuple[int, ...], canvas: Canvas, style: Style) -> Scene:
    """Draw one scene of things in colours: two or three of one kind, and one or two of another."""
    rng = canvas.rng
    backdrop = _backdrop(canvas, [view for view in VIEWS if view[1] != "water"])
    first, second = rng.choice(COLORED, 2, replace=False)
    front = [first] * int(rng.integers(2, 4)) + [second] * int(rng.integers(1, 3))
    return _composed(seed, rng, style, backdrop, [], front, atlas().colored)


Backdrop = tuple[Texture, NDArray[np.uint8], float]


def _backdrop(canvas: Canvas, views: Sequence[tuple[str, str]]) -> Backdrop:
    """Draw what lies behind and below; return it with the horizon's share of the height."""
    far, near = views[int(canvas.rng.integers(len(views)))]
    horizon = float(canvas.rng.uniform(0.42, 0.54))
    return *joined(canvas, far, near, horizon), horizon


def _composed(
    seed: tuple[int, ...],
    rng: np.random.Generator,
    style: Style,
    backdrop: Backdrop,
    behind: list[str],
    front: list[str],
    sprites: Atlas,
) -> Scene:
    image, ground, horizon = backdrop
    chosen = [*behind, *front]
    slots = _slots(rng, len(behind), len(front), style.width)
    places = [
        _place(rng, _number(name), slot, horizon, style, name in behind)
        for name, slot in zip(chosen, slots, strict=True)
    ]
    places.sort(key=lambda place: place[1][1])
    return render(np.random.default_rng((*seed, 2)), style, sprites, image, ground, places, stands=True)


@cache
def _number(name: str) -> int:
    return next(number for number, concept in enumerate(concepts()) if concept.name == name)


def _named(name: str) -> Concept:
    return concepts()[_number(name)]


def _slots(rng: np.random.Generator, behind: int, front: int, width: int) -> list[float]:
    """Spread those behind and those in front apart, and both over the width."""
    order = rng.permutation(behind + front)
    at = (order + 0.5 + rng.uniform(-0.12, 0.12, len(order))) / len(order)
    return [float(x) for x in (0.06 + 0.88 * at) * width]


def _place(rng: np.random.Generator, concept: int, x: float, horizon: float, style: Style, behind: bool) -> Place:
    """Put one thing somewhere: what is behind near the horizon, the rest nearer, what flies above."""
    what = concepts()[concept]
    depth = float(rng.uniform(0.05, 0.3) if behind else rng.uniform(0.45, 0.95))
    size = style.height * SIZES.get(what.kind, 0.3) * TALLER.get(what.name, 1.0)
    if what.kind == "flyer":
        return concept, (x, float(size + rng.uniform(0.02, 0.12) * style.height)), size, float(rng.normal(0, 4))
    scale = 0.62 + 0.38 * depth if not behind else 0.85 + 0.3 * depth
    foot = style.height * (horizon + (0.97 - horizon) * depth)
    size = min(size * scale, foot * 0.97)
    half = size / 2
    return concept, (float(np.clip(x, half * 0.8, style.width - half * 0.8)), float(foot)), size, 0.0
