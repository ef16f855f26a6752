"""One picture of the recurrence: pass by pass the labels left, their maps, what the classifier saw, who was dropped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from model.car import Draws, masks_of
from model.classifier import Classifier
from model.palette import colors
from model.pictures import index_map, overlay
from model.scores import probabilities
from model.segmentation import Segmentation
from model.segmenter import Segmenter, View
from model.sizes import enlarge
from model.vocabulary import Query

MOST = 8  # labels that have a column; of the others only the names are told
CELL, GAP, MARGIN, SIDE = 1.3, 0.14, 0.3, 1.35  # inches: a column, between columns, around all, for words at the left
INK, PALE, DROPPED, BAND = "#1f2933", "#7b8794", "#c0392b", "#f3f5f7"


@dataclass(frozen=True)
class Look:
    """One label in one pass: its map [h, w] in 0..1, what the classifier saw [S, S, 3], its score, whether it stays."""

    label: str
    soft: NDArray[np.float32]
    shown: NDArray[np.uint8]
    score: float
    kept: bool


@dataclass(frozen=True)
class Story:
    """The passes over one image, the labels that were not drawn at all, and the result."""

    image: NDArray[np.uint8]
    passes: tuple[tuple[Look, ...], ...]
    absent: tuple[str, ...]
    result: Segmentation


class Watched(Segmenter):
    """A segmenter that keeps what the recurrence has drawn."""

    def tell(self, image: NDArray[np.uint8], queries: Sequence[Query]) -> Story:
        """Segment an image, uint8 [H, W, 3], and tell how; every label is looked at, in the whole image only."""
        self.preset = replace(self.preset, tags=0.0, tiles=1, mutual="none")
        result = self.segment(image, queries)
        names = [query.label for query in queries]
        alive = [names[row] for row in np.flatnonzero(self._watch.present)] if self._watch.asked else names
        absent = tuple(name for name in names if name not in alive)
        last = probabilities(np.array(list(result.raw_scores.values()), np.float32), self.preset)
        passes = []
        for maps, step in zip(self._watch.drawn, result.steps, strict=True):
            known = dict(zip(names, last.tolist(), strict=True)) | dict(zip(step.queries, step.scores, strict=True))
            shown = self._shown(maps)
            passes.append(
                tuple(
                    Look(label, soft, picture, known[label], label in step.queries)
                    for label, soft, picture in zip(alive, maps.cpu().numpy(), shown, strict=True)
                )
            )
            alive = list(step.queries)
        return Story(image, tuple(passes), absent, result)

    def open(self, image: NDArray[np.uint8]) -> View:
        """Look at an image, and at what is drawn on it from now on."""
        self._view = super().open(image)
        self._watch = Watch(self._view.proposer, self.preset.presence)
        return replace(self._view, proposer=self._watch)

    def _shown(self, maps: Tensor) -> NDArray[np.uint8]:
        """Return what the classifier sees for each map: [R, S, S, 3]."""
        seen = self._view.seen
        masks = masks_of(maps, (seen.shape[0], seen.shape[1]), self.preset)
        return np.asarray(Classifier(self._classifier, seen, self.preset).shown(masks).cpu())


class Watch:
    """A proposer that keeps each pass's maps, and which labels the image as a whole answers to."""

    def __init__(self, proposer: Draws, presence: float) -> None:
        self._proposer = proposer
        self._presence = presence
        self.asked = False
        self.present: NDArray[np.bool_] = np.zeros(0, bool)
        self.drawn: list[Tensor] = []

    def presence(self, texts: Tensor, background: Tensor) -> NDArray[np.float64]:
        """Return each text's probability for the image as a whole; remember which are enough."""
        found = self._proposer.presence(texts, background)
        self.asked, self.present = True, found > self._presence
        return found

    def tags(self, texts: Tensor, background: Tensor) -> NDArray[np.float32]:
        """Return each text's probability for the patch that fits it best."""
        return self._proposer.tags(texts, background)

    def propose(self, texts: Tensor, background: Tensor, wanted: Sequence[int]) -> Tensor:
        """Return soft maps [wanted, h, w]; remember them."""
        maps = self._proposer.propose(texts, background, wanted)
        self.drawn.append(maps)
        return maps


def picture(story: Story) -> Figure:
    """Draw a story: the image and its masks on top, below a band for each pass, in it a column for each label."""
    columns, others = chosen(story)
    page = Page(story, max(5, len(columns)))
    tints = {label: rgb / 255 for label, rgb in zip(columns, colors(len(columns) + 1)[1:], strict=True)}
    _head(page, columns, tints)
    for number, looks in enumerate(story.passes):
        _pass(page, number, looks, columns, others, tints)
    return page.figure


def chosen(story: Story) -> tuple[list[str], list[str]]:
    """Return the labels that get a column, the longest-lived and surest first, and those that do not."""
    lived: dict[str, tuple[int, float]] = {}
    for number, looks in enumerate(story.passes):
        lived |= {look.label: (number + look.kept, look.score) for look in looks}
    ranked = sorted(lived, key=lambda label: lived[label], reverse=True)
    return ranked[:MOST], ranked[MOST:]


class Page:
    """A figure on which things are put by inches from its upper left corner."""

    def __init__(self, story: Story, columns: int) -> None:
        self.story = story
        ratio = min(2.0, story.image.shape[0] / story.image.shape[1])
        self.width = 2 * MARGIN + SIDE + columns * (CELL + GAP)
        self.large = min(3.4, 0.36 * self.width)
        self.map = CELL * ratio
        self.head = MARGIN + 0.35 + self.large * ratio + 0.3
        self.band = 0.42 + self.map + 0.07 + CELL + 0.42
        self.height = self.head + self.band * len(story.passes) + MARGIN / 2
        self.figure = Figure(figsize=(self.width, self.height), dpi=120, facecolor="white")

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Return axes without ticks."""
        axes = self.figure.add_axes(
            (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        )
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        return axes

    def text(self, x: float, y: float, words: str, size: float = 9, color: str = INK, **style: Any) -> None:
        """Write words whose upper left corner is at (x, y)."""
        place = {"va": "top", "ha": "left", **style}
        self.figure.text(x / self.width, 1 - y / self.height, words, fontsize=size, color=color, **place)

    def block(self, x: float, y: float, width: float, height: float, color: object) -> None:
        """Put a rectangle behind what comes."""
        corner = (x / self.width, 1 - (y + height) / self.height)
        size = (width / self.width, height / self.height)
        patch = Rectangle(corner, *size, facecolor=color, transform=self.figure.transFigure, zorder=-1)
        self.figure.add_artist(patch)


def _head(page: Page, columns: Sequence[str], tints: Mapping[str, NDArray[np.float64]]) -> None:
    """Show the image, the masks, and in words what was found."""
    story, result = page.story, page.story.result
    labels = [*columns, *(label for label in result.labels if label not in columns)]
    masks = overlay(story.image, index_map(result, labels), len(labels)) if labels else story.image
    tall, step = page.head - MARGIN - 0.65, page.large + 0.3
    for number, (title, shown) in enumerate((("the image", story.image), ("the masks", masks))):
        page.text(MARGIN + number * step, MARGIN, title, 11, weight="bold")
        page.axes(MARGIN + number * step, MARGIN + 0.3, page.large, tall).imshow(shown, aspect="auto")
    x, y = MARGIN + 2 * step, MARGIN + 0.3
    page.text(x, MARGIN, "found" if result.labels else "nothing was found", 11, weight="bold")
    for label, score in sorted(zip(result.labels, result.scores.tolist(), strict=True), key=lambda pair: -pair[1]):
        page.block(x, y + 0.02, 0.14, 0.14, tints.get(label, PALE))
        page.text(x + 0.24, y, f"{label}  {score:.2f}", 9.5)
        y += 0.24
    if story.absent:
        told = f"Not drawn, as the image as a whole does not answer to them: {shortened(story.absent, 16)}."
        page.text(x, y + 0.1, fill(told, int((page.width - x - MARGIN) * 14)), 7.5, PALE)


def _pass(
    page: Page,
    number: int,
    looks: Sequence[Look],
    columns: Sequence[str],
    others: Sequence[str],
    tints: Mapping[str, NDArray[np.float64]],
) -> None:
    """Show one pass: maps above, what the classifier saw below; what it drops has a red frame."""
    top = page.head + number * page.band
    if number % 2 == 0:
        page.block(0, top, page.width, page.band, BAND)
    kept = sum(look.kept for look in looks)
    page.text(MARGIN, top + 0.42, f"pass {number + 1}", 13, weight="bold")
    page.text(MARGIN, top + 0.75, f"{len(looks)} drawn,\n{'all' if kept == len(looks) else kept} kept", 9)
    low = top + 0.42 + page.map + 0.07
    page.text(MARGIN, low, "as the classifier\nsees it", 8, PALE)
    missing = [look.label for look in looks if look.label in others]
    if missing:
        page.text(MARGIN, low + 0.4, fill(f"not shown: {shortened(missing, 6)}", 20), 6.5, PALE)
    for look in looks:
        if look.label in columns:
            x = MARGIN + SIDE + columns.index(look.label) * (CELL + GAP)
            _cell(page, x, top, look, tints[look.label])


def _cell(page: Page, x: float, top: float, look: Look, tint: NDArray[np.float64]) -> None:
    """Show one label in one pass."""
    center, ink, frame = x + CELL / 2, INK if look.kept else DROPPED, tint if look.kept else DROPPED
    above = page.axes(x, top + 0.42, CELL, page.map)
    below = page.axes(x, top + 0.42 + page.map + 0.07, CELL, CELL)
    height, width = page.story.image.shape[:2]
    gray = page.story.image.mean(axis=2) * 0.55 + 100
    above.imshow(gray, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0), aspect="auto")
    soft = enlarge(look.soft[None], height, width)[0]
    above.imshow(soft, cmap="inferno", vmin=0, vmax=1, alpha=0.85 * soft, extent=(0, width, height, 0), aspect="auto")
    below.imshow(look.shown, aspect="auto")
    page.text(center, top + 0.34, look.label, 9, ink, ha="center", va="bottom", weight="bold")
    told = f"{look.score:.2f}" if look.kept else f"{look.score:.2f}: dropped"
    page.text(center, top + page.band - 0.36, told, 9, ink, ha="center")
    for axes in (above, below):
        axes.spines[:].set(visible=True, edgecolor=frame, linewidth=2 if look.kept else 1.2)


def shortened(names: Sequence[str], most: int) -> str:
    """Return names with commas between; of many the first ones, and how many more there are."""
    return ", ".join(names) if len(names) <= most else f"{', '.join(names[:most])} and {len(names) - most} more"
