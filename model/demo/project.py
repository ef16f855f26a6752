"""Scenes for the demo project: landmarks behind, brands as signs, animals and things in front, all on the ground.

What is farther stands higher and is smaller, its shadow lies at its foot; the sun and what flies are in the sky.
"""

from functools import cache

import numpy as np

from model.demo.grounds import Canvas, joined
from model.demo.scenes import Place, Scene, Style, render
from model.demo.sprites import Atlas, read
from model.demo.world import HERE, concepts

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
    far, near = VIEWS[int(rng.integers(len(VIEWS)))]
    horizon = float(rng.uniform(0.42, 0.54))
    image, ground = joined(canvas, far, near, horizon)
    numbers = {concept.name: number for number, concept in enumerate(concepts())}
    named = [concepts()[numbers[name]] for name in VOCABULARY]
    landmarks = [concept.name for concept in named if concept.kind == "landmark"]
    others = [concept.name for concept in named if concept.kind != "landmark"]
    behind = list(rng.choice(landmarks, int(rng.integers(1, 3)), replace=False))
    front = list(rng.choice(others, int(rng.integers(2, 4)), replace=False))
    chosen = [*behind, *front]
    slots = _slots(rng, len(behind), len(front), style.width)
    places = [
        _place(rng, numbers[name], slot, horizon, style, name in behind)
        for name, slot in zip(chosen, slots, strict=True)
    ]
    places.sort(key=lambda place: place[1][1])
    return render(np.random.default_rng((*seed, 2)), style, drawings(), image, ground, places, stands=True)


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
