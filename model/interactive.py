"""A mask for what a person points at: a sentence, some points, or boxes, in one image.

A sentence is a referring expression (`model.referring`). Points and boxes go to HQ-SAM where its weights are given.
Without them the label says what is meant and GrabCut where it ends: CaR draws the label's mask, in the whole image for
points, in the box and a margin for a box; that mask is the first guess of GrabCut, points and the box are what it must
obey. (Rother, Kolmogorov and Blake 2004, by OpenCV.)
"""

from collections import OrderedDict
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model.places import part_at, placed
from model.referring import refer
from model.regions import colour_maps
from model.sam import Sam, fingerprint
from model.segmentation import Segmentation
from model.segmenter import Segmenter
from model.sizes import shrink
from model.upsampling import guided
from model.vocabulary import Query

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SIDE = 480  # of the picture that GrabCut works on, which takes some tenths of a second
LOOK = 1024  # of the picture in which the label's mask is a first guess
MARGIN = 0.25  # of a box or an object, on each side: what GrabCut learns the background from
LEAST_MARGIN = 16  # pixels of it
ROUNDS = 4  # of GrabCut
DOT = 0.008  # radius of a point, as a share of that picture's longer side
KEPT = 4  # masks of labels that are remembered, so that the next click needs no CLIP
LEAST_SHARE = 0.2  # of the first guess that must be left
LARGEST = 0.3  # share of the image that a region under a point may have to count as a first guess


@dataclass(frozen=True)
class Points:
    """Points in an image, (x, y) in pixels: [N, 2] inside the object, at least one, and [M, 2] outside of it."""

    inside: NDArray[np.int64]
    outside: NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """A part of an image, in pixels; right and bottom are beyond it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def wider(self, size: tuple[int, int]) -> "Window":
        """Return the window with a margin, within an image of (height, width)."""
        across = max(LEAST_MARGIN, round(MARGIN * (self.right - self.left)))
        down = max(LEAST_MARGIN, round(MARGIN * (self.bottom - self.top)))
        return Window(
            max(0, self.left - across),
            max(0, self.top - down),
            min(size[1], self.right + across),
            min(size[0], self.bottom + down),
        )


@dataclass(frozen=True)
class Pointed:
    """A mask, bool [H, W], which may be empty, and its score in 0..1."""

    mask: Mask
    score: float


class Pointer:
    """Answers questions about images with a segmenter and, if it is given, HQ-SAM. Not for several threads at once."""

    def __init__(self, segmenter: Segmenter, sam: Sam | None = None) -> None:
        self.segmenter = segmenter
        self.sam = sam
        self._known: OrderedDict[tuple[bytes, Query], Pointed] = OrderedDict()
        self._coloured: tuple[bytes, list[NDArray[np.int64]]] | None = None

    def at_text(self, image: Image, text: str) -> Pointed:
        """Find what a sentence describes in an image, uint8 [H, W, 3]; a place that it names says which of several."""
        told = placed(text)
        found = _first(refer(self.segmenter, image, [Query(told.text, (told.text,))]), image)
        return Pointed(part_at(found.mask, told.side), found.score)

    def at_points(self, image: Image, query: Query, points: Points) -> Pointed:
        """Find the object of a label at points in an image, uint8 [H, W, 3]."""
        if self.sam is not None:
            both = np.concatenate([points.inside, points.outside])
            labels = np.repeat([1, 0], [len(points.inside), len(points.outside)])
            answer = self.sam.prompt(self.sam.embed(image), both.astype(np.float64), labels)
            return Pointed(answer.mask, float(np.clip(answer.quality, 0, 1)))
        known = self._labelled(image, query)
        guess = holding(known.mask, points.inside)
        unseen = points.inside[~guess[points.inside[:, 1], points.inside[:, 0]]]
        guess |= self._regions_at(image, unseen, points.outside)
        window = _around(guess, points).wider((image.shape[0], image.shape[1]))
        wrong = self._regions_at(image, points.outside, points.inside)
        found = holding(cut(image, window, guess, wrong, points), points.inside)
        if found.sum() < LEAST_SHARE * guess.sum():  # GrabCut kept little more than the dots
            found = holding(guess & ~wrong, points.inside)
        return Pointed(found, known.score)

    def at_box(self, image: Image, query: Query, box: Window) -> Pointed:
        """Find the object of a label in a box, which is not empty, of an image, uint8 [H, W, 3]."""
        all_of_it = np.zeros(image.shape[:2], bool)
        all_of_it[box.place] = True
        if self.sam is not None:
            corners = np.array([box.left, box.top, box.right, box.bottom], np.float64)
            answer = self.sam.prompt(self.sam.embed(image), box=corners)
            return Pointed(answer.mask & all_of_it, float(np.clip(answer.quality, 0, 1)))
        window = box.wider((image.shape[0], image.shape[1]))
        found = self._guess(image[window.place], query)
        label = np.zeros_like(all_of_it)
        label[window.place] = found.mask
        guesses = [guess for guess in (label & all_of_it, all_of_it) if guess.any()]
        # Two guesses, since a box is drawn to be filled: what fills it better is meant.
        masks = [cut(image, window, guess, ~all_of_it) & all_of_it for guess in guesses]
        return Pointed(max(masks, key=lambda mask: filled(mask, box)), found.score)

    def _regions_at(self, image: Image, here: NDArray[np.int64], elsewhere: NDArray[np.int64]) -> Mask:
        """For points [N, 2] that lie `here`, the largest region of even colour that holds no point `elsewhere`."""
        found = np.zeros(image.shape[:2], bool)
        if not len(here):
            return found
        levels = self._colours(image)
        scale = levels[0].shape[0] / found.shape[0]
        places, others = (_places(points, scale, levels[0].shape) for points in (here, elsewhere))
        for place in places:
            for numbers in reversed(levels):  # the coarsest first
                region = numbers == numbers[place]
                if region.mean() <= LARGEST and not any(region[other] for other in others):
                    found |= cv2.resize(region.astype(np.uint8), found.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
                    break
        return found

    def _colours(self, image: Image) -> list[NDArray[np.int64]]:
        """The regions of even colour of the image, at most `SIDE` large; those of the last image are remembered."""
        key, preset = fingerprint(image), self.segmenter.preset
        if self._coloured is None or self._coloured[0] != key:
            self._coloured = key, colour_maps(_reduced(image), preset.region_scale, preset.region_levels)
        return self._coloured[1]

    def _guess(self, image: Image, query: Query) -> Pointed:
        """The label's mask, drawn on an image at most `LOOK` large: GrabCut will find the edges."""
        seen = _reduced(image, LOOK)
        found = _first(self.segmenter.segment(seen, [query]), seen)
        if seen.shape == image.shape:
            return found
        mask = cv2.resize(found.mask.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        return Pointed(mask > 0, found.score)

    def _labelled(self, image: Image, query: Query) -> Pointed:
        """The label's mask in the whole image; those of the last images are remembered."""
        key = fingerprint(image), query
        known = self._known.pop(key, None) or self._guess(image, query)
        self._known[key] = known
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return known


def cut(image: Image, window: Window, guess: Mask, never: Mask, points: Points | None = None) -> Mask:
    """Return what GrabCut makes of a guess [H, W] in a window of an image [H, W, 3]: a mask [H, W].

    never: [H, W], what is not the object, as all that is beyond the window; but points are as they say.
    """
    part = image[window.place]
    natural = (part.shape[0], part.shape[1])
    small = _reduced(part)
    size = (small.shape[0], small.shape[1])
    hints = np.where(guess[window.place], cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    hints[never[window.place]] = cv2.GC_BGD
    hints = np.asarray(cv2.resize(hints, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    if points is not None:
        radius = max(2, round(DOT * max(size)))
        for places, kind in ((points.inside, cv2.GC_FGD), (points.outside, cv2.GC_BGD)):
            for x, y in (np.asarray(places) - [window.left, window.top]) * [size[1] / natural[1], size[0] / natural[0]]:
                cv2.circle(hints, (int(x), int(y)), radius, kind, -1)
    found = _grabbed(small, hints)
    mask = np.zeros(guess.shape, bool)
    if size == natural:
        mask[window.place] = found
    elif found.any():
        mask[window.place] = guided(np.stack([~found, found]).astype(np.float32), part) == 1
    return mask


def _reduced(image: Image, side: int = SIDE) -> Image:
    """An image whose longer side is at most `side`."""
    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return np.ascontiguousarray(image) if scale == 1 else shrink(np.ascontiguousarray(image), *size)


def _grabbed(image: Image, hints: NDArray[np.uint8]) -> Mask:
    """Run GrabCut, which needs some of both: the object and what is not."""
    is_object = (hints == cv2.GC_FGD) | (hints == cv2.GC_PR_FGD)
    if not is_object.any() or is_object.all():
        return np.asarray(is_object)
    cv2.setRNGSeed(0)  # the same answer to the same question
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    model = np.zeros((2, 1, 65))
    cv2.grabCut(bgr, hints, (0, 0, 1, 1), model[0], model[1], ROUNDS, cv2.GC_INIT_WITH_MASK)
    return np.asarray((hints == cv2.GC_FGD) | (hints == cv2.GC_PR_FGD))


def holding(mask: Mask, points: NDArray[np.int64]) -> Mask:
    """Return the parts of a mask [H, W] that hold a point (x, y) of [N, 2]."""
    _, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    held = {int(parts[y, x]) for x, y in points} - {0}
    return np.isin(parts, list(held))


def _places(points: NDArray[np.int64], scale: float, size: tuple[int, ...]) -> list[tuple[int, int]]:
    """Points (x, y) of [N, 2] as (row, column) of a reduced image of that size."""
    return [(min(size[0] - 1, int(y * scale)), min(size[1] - 1, int(x * scale))) for x, y in points]


def _around(guess: Mask, points: Points) -> Window:
    """The smallest window that holds a guess [H, W] and all points."""
    rows, columns = np.flatnonzero(guess.any(axis=1)), np.flatnonzero(guess.any(axis=0))
    xs = np.concatenate([columns[[0, -1]] if len(columns) else [], points.inside[:, 0], points.outside[:, 0]])
    ys = np.concatenate([rows[[0, -1]] if len(rows) else [], points.inside[:, 1], points.outside[:, 1]])
    if not len(rows):  # nothing is known of its size
        return Window(0, 0, guess.shape[1], guess.shape[0])
    return Window(int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)


def filled(mask: Mask, box: Window) -> float:
    """How much of a box the box around a mask [H, W] within it takes, 0..1."""
    if not mask.any():
        return 0.0
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    area = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    return float(area / ((box.right - box.left) * (box.bottom - box.top)))


def _first(found: Segmentation, image: Image) -> Pointed:
    if not len(found.masks):
        return Pointed(np.zeros(image.shape[:2], bool), 0.0)
    return Pointed(found.masks[0], float(found.scores[0]))
