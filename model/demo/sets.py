"""The sets of scenes that are drawn for measuring, as folders that `python -m model evaluate folder` reads.

Each set has seeds of its own, which no training ever draws: the first number of a scene's seed says whose it is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.demo import photographs
from model.demo.grounds import Canvas
from model.demo.project import COLORED, VOCABULARY, compose, compose_colored
from model.demo.scenes import Scene, Style, draw
from model.demo.sprites import atlas
from model.demo.world import COLORS, concepts

# The first number of every scene's seed; training has 1 (`batches.TRAINING`).
SEEDS = {"test": 2, "test2": 3, "tune": 4, "project": 5, "expressions": 7}
QUERIES = 10
TEST = Style(height=384, width=384, least=3, most=5, smallest=0.22, largest=0.45, standing=0.3, nameless=0.0)
PROJECT = Style(height=480, width=640, worn=False)
QUALITY = 90


@dataclass(frozen=True)
class Task:
    """A scene, the names that it is searched for, and how its objects are called."""

    scene: Scene
    queries: tuple[str, ...]
    called: tuple[str, ...]


def own(owner: str, number: int) -> Task:
    """Draw scene `number` of `test`, or of `tune` for choosing settings: the world as in training, other seeds."""
    seed = (SEEDS[owner], 0, number)
    scene = draw(seed, TEST, atlas())
    return Task(scene, asked(scene, np.random.default_rng((*seed, 1)), atlas().drawable), names_of(scene))


def foreign(number: int) -> Task:
    """Draw scene `number` of `test2`: other drawings of the same things, on photographs."""
    seed, other = (SEEDS["test2"], 0, number), atlas("atlas-test")
    rng = np.random.default_rng((*seed, 2))
    photograph, ground = photographs.ground(rng, TEST.height)
    names = concepts()
    possible = [concept for concept in other.drawable if names[concept].name not in photograph.shows]
    wanted = rng.choice(possible, int(rng.integers(TEST.least, TEST.most + 1)), replace=False)
    nowhere = np.zeros(ground.shape[:2], np.uint8)
    scene = draw(seed, TEST, other, tuple(int(concept) for concept in wanted), (ground, nowhere, 0.0))
    return Task(scene, asked(scene, rng, possible), names_of(scene))


def project(number: int) -> Task:
    """Draw a scene of the first demo project: one vocabulary for all, things stand on the ground."""
    seed, style = (SEEDS["project"], 0, number), PROJECT
    scene = compose(seed, Canvas(np.random.default_rng((*seed, 1)), style.height, style.width, style.unit), style)
    return Task(scene, VOCABULARY, names_of(scene))


def expressions(number: int) -> Task:
    """Draw a scene of the second one: it is asked for each thing in its colour, and in one that is not there."""
    seed, style = (SEEDS["expressions"], 0, number), PROJECT
    canvas = Canvas(np.random.default_rng((*seed, 1)), style.height, style.width, style.unit)
    scene = compose_colored(seed, canvas, style)
    called = tuple(f"{placed.color} {concepts()[placed.concept].name}" for placed in scene.placed)
    there = {name for place, name in enumerate(called, 1) if scene.mask(place).any()}
    absent = []
    for thing in dict.fromkeys(concepts()[placed.concept].name for placed in scene.placed):
        absent += list(
            canvas.rng.choice([f"{color} {thing}" for color in COLORS if f"{color} {thing}" not in called], 2)
        )
    queries = canvas.rng.permutation(sorted({*there, *absent}))
    return Task(scene, tuple(map(str, queries)), called)


SETS: dict[str, Callable[[int], Task]] = {
    "test": partial(own, "test"),
    "test2": foreign,
    "tune": partial(own, "tune"),
    "project": project,
    "expressions": expressions,
}


def asked(scene: Scene, rng: np.random.Generator, possible: Sequence[int]) -> tuple[str, ...]:
    """Return what a scene is searched for, in any order: what is seen of it, and absent concepts up to QUERIES."""
    present = [placed.concept for number, placed in enumerate(scene.placed, 1) if scene.mask(number).any()]
    absent = [concept for concept in possible if concept not in {placed.concept for placed in scene.placed}]
    chosen = [*present, *rng.choice(absent, QUERIES - len(present), replace=False)]
    return tuple(concepts()[int(concept)].name for concept in rng.permutation(chosen))


def names_of(scene: Scene) -> tuple[str, ...]:
    """Return the names of a scene's objects."""
    return tuple(concepts()[placed.concept].name for placed in scene.placed)


def classes(name: str) -> tuple[str, ...]:
    """Return what the objects of a set can be."""
    if name == "expressions":
        return tuple(f"{color} {thing}" for thing in COLORED for color in COLORS)
    return tuple(concept.name for concept in concepts())


def index(task: Task, names: Sequence[str]) -> NDArray[np.uint8]:
    """Return a scene's ground truth: 0, or the place in `names`, from 1, of what the pixel's object is called."""
    table = np.array([0, *(names.index(name) + 1 for name in task.called)], np.uint8)
    return np.asarray(table[task.scene.objects], np.uint8)


def write(name: str, folder: Path, count: int) -> Iterator[Path]:
    """Draw a set into a folder: JPEGs, index masks, queries, classes; yield each image's path."""
    for part in ("images", "masks", "queries"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    names = classes(name)
    (folder / "classes.txt").write_text("".join(f"{one}\n" for one in names), encoding="utf-8")
    for number in range(count):
        task = SETS[name](number)
        path = folder / "images" / f"{number:03d}.jpg"
        Image.fromarray(task.scene.image).save(path, quality=QUALITY)
        Image.fromarray(index(task, names)).save(folder / "masks" / f"{number:03d}.png", optimize=True)
        queries = "".join(f"{query}\n" for query in task.queries)
        (folder / "queries" / f"{number:03d}.txt").write_text(queries, encoding="utf-8")
        yield path
