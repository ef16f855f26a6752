"""The front door: `Segmenter` loads the weights once and turns images and labels into masks."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from model.car import Draws, Outcome, Progress, Texts, clip_as_rnn, silent
from model.classifier import Classifier, prompt_bank, text_bank
from model.encoder import Encoder
from model.memory import Memory
from model.mutual import runs
from model.presets import Preset
from model.proposals import Proposer
from model.recall import Recall, Towers
from model.regions import Refiner
from model.scores import probabilities
from model.segmentation import Search, Segmentation, composed
from model.sizes import bounded, resize, shrink
from model.stream import Found, drawers_beside, stream
from model.tiles import Piece, Place, merged, places
from model.vocabulary import Query, check, vocabulary, without_synonyms
from model.weights import load, towers


class ImageTooLargeError(ValueError):
    """A preset without a bound on patches met an image that does not fit into memory."""


@dataclass(frozen=True)
class View:
    """An opened image [H, W, 3]: as CLIP sees it, the proposer that keeps its trunk, and the seconds that took."""

    image: NDArray[np.uint8]
    seen: NDArray[np.uint8]
    proposer: Draws
    seconds: float


class Segmenter:
    """A preset with its weights loaded. Not for use by several threads at once."""

    def __init__(self, preset: Preset, device: str | None = None, weights: str | None = None) -> None:
        """Load the preset's weights, or `weights`: `demo`, `random` or a folder. Raises WeightsError."""
        self.preset = preset
        self._weights = weights
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        proposals, classifier = load(preset, weights)
        self._proposals = Encoder(proposals, self.device, preset.positions, preset.precision)
        same = classifier is proposals
        self._classifier = (
            self._proposals if same else Encoder(classifier, self.device, preset.positions, preset.precision)
        )
        self.refiner = Refiner(str(self.device)).prepare(preset)
        self.towers = Towers(self._proposals, self._classifier)
        self.memory = self.towers.read(preset)

    def shares(self, preset: Preset) -> bool:
        """Whether another preset needs no other towers than these."""
        return towers(preset, self._weights) == towers(self.preset, self._weights)

    def under(self, preset: Preset, memory: Memory | None = None) -> "Segmenter":
        """Return a segmenter for a preset that `shares` the towers: they are loaded once.

        memory: instead of the one that the preset names. Raises WeightsError and MemoryFileError.
        """
        if not self.shares(preset):
            raise ValueError(f"{preset.name} needs other towers than {self.preset.name}")
        twin = copy(self)
        twin.preset = preset
        twin.refiner.prepare(preset)
        twin.memory = self.towers.read(preset) if memory is None else memory
        return twin

    def segment(
        self,
        image: NDArray[np.uint8],
        queries: Sequence[Query],
        threshold: float | Mapping[str, float] | None = None,
        progress: Progress = silent,
    ) -> Segmentation:
        """Find each query in an image, uint8 [H, W, 3] RGB of any size from one pixel.

        threshold: the least score of a region that is reported, for all labels or by label; below theta it also keeps
        labels in the recurrence that theta would drop. progress: hears a stage (`maps`, `scores`), how many labels are
        done in this pass of the recurrence, and of how many. Raises VocabularyError without labels or with a label
        twice, ValueError for another kind of array, ImageTooLargeError where a preset sets no bound and memory does.
        """
        return self.look(image, queries, threshold, progress).result()

    def stream(
        self,
        images: Iterable[NDArray[np.uint8]],
        queries: Sequence[Query],
        threshold: float | Mapping[str, float] | None = None,
        drawers: int | None = None,
    ) -> Iterator[Segmentation | Exception]:
        """Segment many images; yield each one's result, or the error that it met, in order.

        Masks are drawn by `drawers` other processes while CLIP looks at the next images, which are asked for when they
        are needed. 0: by none; by default as many as there are cores left over.
        """
        chosen = self.drawers if drawers is None else drawers
        return stream(images, lambda image: self.look(image, queries, threshold), chosen)

    @property
    def drawers(self) -> int:
        """How many processes may draw masks while this one looks at images: as many as there are cores left over."""
        return drawers_beside(self.device.type, torch.get_num_threads())

    def look(
        self,
        image: NDArray[np.uint8],
        queries: Sequence[Query],
        threshold: float | Mapping[str, float] | None = None,
        progress: Progress = silent,
    ) -> Found[Segmentation]:
        """Do what needs CLIP; the masks of what was found are still to be drawn. See `segment`."""
        started = perf_counter()
        check(queries)
        least = probabilities(thresholds(queries, threshold), self.preset)
        planned = runs(queries, self.preset)
        found: list[list[Piece]] = [[] for _ in planned]
        trunk = 0.0
        for place in self._places(image):
            view = self.open(image[place])
            trunk += view.seconds
            for run, pieces in zip(planned, found, strict=True):
                rows = list(run.rows)
                outcome = self.find(view, [queries[row] for row in rows], least[rows], run.preset, progress)
                pieces.append(Piece(place, outcome))
        searches = [
            Search(run, merged(pieces, image.shape, self.preset), least[list(run.rows)])
            for run, pieces in zip(planned, found, strict=True)
        ]
        spent = {"trunk": trunk, "total": perf_counter() - started}
        names, size = [query.label for query in queries], (image.shape[0], image.shape[1])
        refiner = self.refiner.prepare(self.preset)
        drawings = tuple(search.drawing(image, refiner) for search in searches)
        return Found(drawings, lambda drawn: composed(names, size, searches, drawn, spent))

    def open(self, image: NDArray[np.uint8]) -> View:
        """Look at an image, uint8 [H, W, 3]: the proposals' trunk runs here, once for all that is sought."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f"An image is uint8 [H, W, 3] with H, W > 0; got {image.dtype} {list(image.shape)}.")
        started = perf_counter()
        seen = self._seen(image)
        return View(image, seen, self._proposer(seen), perf_counter() - started)

    def find(
        self,
        view: View,
        queries: Sequence[Query],
        least: NDArray[np.float32],
        preset: Preset | None = None,
        progress: Progress = silent,
    ) -> Outcome:
        """Run the recurrence over queries [N] on an opened image, with the preset's settings or other ones.

        least: scores [N] that are enough to survive where they are below theta, nan where theta counts.
        """
        preset = preset or self.preset
        started = perf_counter()
        recall = self.towers.recall(self.memory, queries, preset)
        texts = self._texts(queries, preset, view.proposer, recall)
        told = perf_counter()
        classifier = Classifier(self._classifier, view.seen, preset, recall)
        theta = np.fmin(np.float32(preset.theta), least)
        size = (view.seen.shape[0], view.seen.shape[1])
        outcome = clip_as_rnn(view.proposer, classifier, texts, size, preset, theta, progress)
        outcome.seconds["texts"] = told - started
        unaided = outcome.scores.copy()
        unaided[list(classifier.unaided)] = list(classifier.unaided.values())
        return replace(outcome, unaided=unaided)

    def looks(
        self, image: NDArray[np.uint8], masks: Sequence[NDArray[np.bool_]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return how masks [K, H, W] of an image look, L2-normalised: to the classifier, and to the proposals' CLIP."""
        return self.towers.looks(self._seen(image), masks, self.preset)

    def _texts(
        self,
        queries: Sequence[Query],
        preset: Preset | None = None,
        draws: Draws | None = None,
        recall: Recall | None = None,
    ) -> Texts:
        """Return the embeddings of all that competes; `draws` tells which of several prompts fits the image best.

        recall: labels whose texts mean nothing to CLIP are drawn by what is remembered of their looks.
        """
        preset = preset or self.preset
        rivals = without_synonyms(preset.rivals, queries)
        kept = preset.own_background == "keep"
        background = preset.background if kept else without_synonyms(preset.background, queries)
        best = preset.synonyms == "best" and any(len(query.prompts) > 1 for query in queries)

        def drawn(of: Sequence[Query], template: str) -> torch.Tensor:
            if best and draws is not None and of is queries:
                return _fittest(prompt_bank(self._proposals, of, (template,))[:, 0], draws)
            return text_bank(self._proposals, of, (template,))[:, 0]

        def scored(of: Sequence[Query]) -> torch.Tensor:
            return (prompt_bank if best else text_bank)(self._classifier, of, preset.templates)

        competing = (*background, *(rivals if preset.map_rivals == "yes" else ()))
        bank, first = scored(queries), drawn(queries, preset.first_template)
        later = drawn(queries, preset.later_template)
        against = scored(vocabulary(rivals)).expand(-1, *bank.shape[1:]) if rivals else bank[:0]
        for row, look in (recall.looks(bank, against, preset) if recall else {}).items():
            first[row] = later[row] = look
        behind = drawn(vocabulary(competing), preset.background_template) if competing else first[:0]
        return Texts(first, later, behind, bank, against)

    def _proposer(self, seen: NDArray[np.uint8]) -> Proposer:
        patch = self._proposals.patch
        height, width = (-(-side // patch) * patch for side in seen.shape[:2])
        return Proposer(self._proposals, self._proposals.pixels([resize(seen, height, width)]), self.preset)

    def _places(self, image: NDArray[np.uint8]) -> list[Place]:
        """Return where to look: at the whole image, and at tiles if there is more to see than `max_patches` show."""
        if image.ndim != 3:
            return [(slice(None), slice(None))]  # `open` refuses it
        height, width = image.shape[:2]
        shrunk = bounded(height, width, self._proposals.patch, self.preset.max_patches) != (height, width)
        return places(height, width, self.preset.tiles if shrunk else 1)

    def _seen(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the image as CLIP sees it: scaled down until it has at most `max_patches`."""
        patch, most = self._proposals.patch, self.preset.max_patches
        height, width = bounded(image.shape[0], image.shape[1], patch, most)
        if not most:
            _refuse_beyond_memory(height, width, patch)
        return image if (height, width) == image.shape[:2] else shrink(image, height, width)


def thresholds(queries: Sequence[Query], threshold: float | Mapping[str, float] | None) -> NDArray[np.float32]:
    """Return each query's least score [N], nan where none is asked for."""
    if isinstance(threshold, Mapping):
        return np.array([threshold.get(query.label, np.nan) for query in queries], np.float32)
    return np.full(len(queries), np.nan if threshold is None else threshold, np.float32)


def _fittest(prompts: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Return of prompts [N, P, E] the one of each query that fits the image best: [N, E]."""
    flat = prompts.flatten(0, 1)
    fits = draws.presence(flat, flat[:0]).reshape(prompts.shape[:2])
    return prompts[torch.arange(len(prompts)), torch.from_numpy(fits.argmax(axis=1))]


def _refuse_beyond_memory(height: int, width: int, patch: int) -> None:
    """Refuse what would not fit: some thirty attention matrices of 4-byte numbers are alive at once."""
    patches = -(-height // patch) * -(-width // patch)
    needed = 30 * 4 * patches**2
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > free:
        raise ImageTooLargeError(
            f"An image of {width} x {height} needs {needed / 2**30:.0f} GiB for the attention among its {patches:,} "
            f"patches, {free / 2**30:.0f} GiB are free. Set max_patches (for example to 1200) or use a service preset."
        )
