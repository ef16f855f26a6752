"""Batches for training: scenes from a pool that is renewed all the time, cropped, turned, partly prompted.

Everything follows from the seed and the number of the step: a run that was stopped goes on as if it had not been.
"""

import random
from collections import deque
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from model.demo import prompting, words
from model.demo.recipe import Recipe
from model.demo.scenes import Placed, Scene, Style, draw
from model.demo.sprites import Atlas, atlas
from model.demo.world import concepts, grounds

Kind = tuple[str, ...]

PATCH = 16
GRID = 16  # patches on a side of a whole image
PROMPTED = 0.45  # how many of a batch's images are prompted, those apart that are only there for their circles
EMPTY = 0.06  # how many of those are prompted with a box around nothing
GROUND_WEIGHT, PROMPTED_GROUND_WEIGHT = 0.3, 0.05
LEAST_PIXELS, LEAST_SHARE = 240, 0.35  # an object counts as visible above both
TRAINING = 1  # first number of the seeds of training's scenes


@dataclass(frozen=True)
class Sample:
    """One image [S, S, 3] with what is in it.

    objects: [S, S]; visible: numbers of objects in it, with their concepts; partly: concepts of which too little is
    seen; behind: class numbers of the grounds; target: the object that is prompted, 0 for a prompt around nothing, None
    for none. encircled: bool [S, S], the inside of the red circle around the target, where that is all that prompts.
    """

    image: NDArray[np.uint8]
    objects: NDArray[np.uint8]
    visible: dict[int, int]
    partly: frozenset[int]
    behind: tuple[int, ...]
    seen: dict[int, words.Seen]
    target: int | None
    encircled: NDArray[np.bool_] | None = None

    @property
    def meant(self) -> list[int]:
        """The objects that the image is about: the prompted one, or all that are visible where nothing is prompted."""
        if self.target is None:
            return list(self.visible)
        return [self.target] if self.target else []


@dataclass(frozen=True)
class Batch:
    """Samples as tensors. images: uint8 [B, S, S, 3]; positions: [B, n] places in the grid, or None for all of them.

    objects: uint8 [B, S, S]. weights: [B, C] how much of each class a sample shows; unsure: bool [B, C], neither right
    nor wrong.
    """

    samples: tuple[Sample, ...]
    images: Tensor
    positions: Tensor | None
    objects: Tensor
    weights: Tensor
    unsure: Tensor

    @property
    def clean(self) -> list[int]:
        """Return which samples are not prompted."""
        return [row for row, sample in enumerate(self.samples) if sample.target is None]


@dataclass
class Pool:
    """The newest scenes of an endless sequence; scene number i is drawn with seed (TRAINING, seed, i)."""

    atlas: Atlas
    style: Style
    seed: int
    size: int
    scenes: deque[Scene] = field(default_factory=deque)
    end: int = 0

    def forward(self, end: int) -> None:
        """Make the pool hold the scenes up to number `end`, that one not included, drawing what is missing."""
        for number in range(max(self.end, end - self.size), end):
            self.scenes.append(draw((TRAINING, self.seed, number), self.style, self.atlas))
            if len(self.scenes) > self.size:
                self.scenes.popleft()
        self.end = max(self.end, end)


class Batches(Dataset[Batch]):
    """All batches of a recipe, by step, or one part of each. Each process that asks for some keeps its own pool."""

    def __init__(self, recipe: Recipe, part: int = 0) -> None:
        self._recipe, self._part = recipe, part
        self._pool: Pool | None = None
        self._stage = -1

    def __len__(self) -> int:
        return self._recipe.steps

    def __getitem__(self, step: int) -> Batch:
        recipe, number = self._recipe, self._recipe.stage(step)
        if number != self._stage or self._pool is None:
            style = recipe.stages[number].style
            seed = (recipe.seed + 1000 * self._part) * 100 + number
            self._pool, self._stage = Pool(atlas(), style, seed, recipe.pool), number
        self._pool.forward(recipe.pool + step * recipe.fresh)
        side, size = recipe.shape(step)
        return batch(self._pool, step, size // recipe.parts, side, recipe.circled)


def batch(pool: Pool, step: int, size: int, side: int, circled: float = 0.0) -> Batch:
    """Make the batch of one step: `size` samples of `side` pixels, a multiple of the patch, a share of them circled."""
    rng = np.random.default_rng((TRAINING, pool.seed, step, 7))
    samples = [
        sample(pool.scenes[int(rng.integers(len(pool.scenes)))], side, rng, _kind(rng, circled)) for _ in range(size)
    ]
    count = len(concepts()) + len(grounds())
    weights, unsure = torch.zeros(size, count), torch.zeros(size, count, dtype=torch.bool)
    for row, one in enumerate(samples):
        _weigh(one, weights[row], unsure[row])
    images = torch.from_numpy(np.stack([one.image for one in samples]))
    objects = torch.from_numpy(np.stack([one.objects for one in samples]))
    return Batch(tuple(samples), images, _positions(rng, size, side // PATCH), objects, weights, unsure)


def _kind(rng: np.random.Generator, circled: float) -> Kind | None:
    """Choose how an image is prompted, if it is: a share of the images with nothing but a circle."""
    if rng.random() < circled:
        return prompting.CIRCLE
    if rng.random() < PROMPTED:
        return prompting.KINDS[int(rng.choice(len(prompting.KINDS), p=prompting.SHARES))]
    return None


def _weigh(one: Sample, weights: Tensor, unsure: Tensor) -> None:
    behind = list(one.behind)
    if one.target is None:
        weights[list(one.visible.values())] = 1
        unsure[list(one.partly)] = True
        weights[behind] = GROUND_WEIGHT
    elif one.target:
        weights[one.visible[one.target]] = 1
        weights[behind] = PROMPTED_GROUND_WEIGHT
    else:
        weights[behind] = GROUND_WEIGHT


def _positions(rng: np.random.Generator, size: int, side: int) -> Tensor | None:
    """Spread the patches of smaller images over the grid, in their order: left stays left."""
    if side == GRID:
        return None
    chosen = [np.sort(rng.permutation(GRID)[:side]) for _ in range(2 * size)]
    rows, columns = torch.from_numpy(np.stack(chosen).reshape(2, size, side)).unbind()
    return (rows[:, :, None] * GRID + columns[:, None, :]).flatten(1)


def sample(scene: Scene, side: int, rng: np.random.Generator, kind: Kind | None) -> Sample:
    """Cut a sample out of a scene, maybe mirror it, change its light, prompt it if a kind of prompt is given."""
    height, width = scene.image.shape[:2]
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    window = (slice(top, top + side), slice(left, left + side))
    mirrored = rng.random() < 0.5
    image, objects, ground = (
        np.ascontiguousarray(part[window][:, ::-1] if mirrored else part[window])
        for part in (scene.image, scene.objects, scene.grounds)
    )
    visible, partly = _visible(scene, objects)
    behind = _behind(objects, ground)
    facts = {
        number: _facts(scene.placed[number - 1], objects == number, ground, number in visible) for number in visible
    }
    image = _relit(image, rng)
    target, encircled = None, None
    if kind:
        numbers = list(visible)
        target = numbers[int(rng.integers(len(numbers)))] if numbers and rng.random() > EMPTY else 0
        mask = prompting.coarse(objects == target, rng) if target else prompting.anywhere((side, side), rng)
        if target or (objects[mask] > 0).mean() < 0.05:
            zooms = prompting.CIRCLE_ZOOMS if kind == prompting.CIRCLE else prompting.ZOOMS
            if target and kind == prompting.CIRCLE:
                mask = prompting.touching(mask, objects == target)
                encircled = prompting.encircled(mask)
            image = prompting.prompt(image, mask, kind, zooms[int(rng.integers(len(zooms)))])
            if target and kind == ("black",):
                behind = ()
        else:
            target = None
    return Sample(image, objects, visible, partly, behind, facts, target, encircled)


def _visible(scene: Scene, objects: NDArray[np.uint8]) -> tuple[dict[int, int], frozenset[int]]:
    whole = np.bincount(scene.objects.ravel(), minlength=len(scene.placed) + 1)
    shown = np.bincount(objects.ravel(), minlength=len(scene.placed) + 1)
    visible, partly = {}, set()
    for number, placed in enumerate(scene.placed, start=1):
        if shown[number] > LEAST_PIXELS and shown[number] > LEAST_SHARE * whole[number]:
            visible[number] = placed.concept
        elif shown[number]:
            partly.add(placed.concept)
    return visible, frozenset(partly - set(visible.values()))


def _behind(objects: NDArray[np.uint8], ground: NDArray[np.uint8]) -> tuple[int, ...]:
    counts = np.bincount(ground[objects == 0], minlength=len(grounds()) + 1)
    return tuple(len(concepts()) + i for i in range(len(grounds())) if counts[i + 1] > 0.06 * objects.size)


def _facts(placed: Placed, mask: NDArray[np.bool_], ground: NDArray[np.uint8], visible: bool) -> words.Seen:
    """Say where an object is, how large, and on what. In between nothing is said."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = mask.shape
    x, y = (columns[0] + columns[-1]) / 2 / width, (rows[0] + rows[-1]) / 2 / height
    extent = max(rows[-1] - rows[0], columns[-1] - columns[0]) / min(height, width)
    below = ground[min(height - 1, rows[-1]), (columns[0] + columns[-1]) // 2]
    return words.Seen(
        placed.concept,
        placed.color,
        ("left" if x < 0.4 else "right" if x > 0.6 else "", "top" if y < 0.4 else "bottom" if y > 0.6 else ""),
        "large" if extent > 0.42 else "small" if extent < 0.3 else "",
        len(concepts()) + int(below) - 1 if below else None,
    )


def _relit(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change the colours' strength and the brightness a little."""
    gain = (255 * (1 + 0.12 * rng.standard_normal(3)) / 255).reshape(1, 3)
    shift = float(12 * rng.standard_normal())
    table = np.clip(np.arange(256)[:, None] * gain + shift, 0, 255).astype(np.uint8)[None]
    return np.asarray(cv2.LUT(image, np.ascontiguousarray(table.transpose(1, 0, 2))), np.uint8)


def chooser(seed: int, step: int) -> random.Random:
    """Return the generator of a step's texts."""
    return random.Random(f"{seed} {step} texts")
