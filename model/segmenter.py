"""The front door: `Segmenter` loads the weights once and turns images and labels into masks."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from model.canvas import draw
from model.car import Step, Texts, clip_as_rnn
from model.classifier import Classifier, text_bank
from model.encoder import Encoder
from model.presets import Preset
from model.proposals import Proposer
from model.sizes import bounded, resize, shrink
from model.vocabulary import Query, check, vocabulary, without_synonyms
from model.weights import load

__all__ = ["ImageTooLargeError", "Segmentation", "Segmenter", "Step"]


class ImageTooLargeError(ValueError):
    """A preset without a bound on patches met an image that does not fit into memory."""


@dataclass(frozen=True)
class Segmentation:
    """What was found in one image of H x W pixels.

    labels: the K labels found, in the vocabulary's order. masks: bool [K, H, W], disjoint, none empty. scores: float32
    [K], 0..1. raw_scores: every label's last score, dropped ones too. steps: the passes of the recurrence. seconds: per
    stage.
    """

    labels: tuple[str, ...]
    masks: NDArray[np.bool_]
    scores: NDArray[np.float32]
    raw_scores: Mapping[str, float]
    steps: tuple[Step, ...]
    seconds: Mapping[str, float]


class Segmenter:
    """A preset with its weights loaded. Not for use by several threads at once."""

    def __init__(self, preset: Preset, device: str | None = None, weights: str | None = None) -> None:
        """Load the preset's weights, or `weights`: `demo`, `random` or a folder. Raises WeightsError."""
        self.preset = preset
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        proposals, classifier = load(preset, weights)
        self._proposals = Encoder(proposals, self.device, preset.positions)
        same = classifier is proposals
        self._classifier = self._proposals if same else Encoder(classifier, self.device, preset.positions)

    def segment(
        self,
        image: NDArray[np.uint8],
        queries: Sequence[Query],
        threshold: float | Mapping[str, float] | None = None,
    ) -> Segmentation:
        """Find each query in an image, uint8 [H, W, 3] RGB of any size from one pixel.

        threshold: the least score of a region that is reported, for all labels or by label; below theta it also keeps
        labels in the recurrence that theta would drop. Raises VocabularyError without labels or with a label twice,
        ValueError for another kind of array, ImageTooLargeError where a preset sets no bound and memory does.
        """
        started = perf_counter()
        check(queries)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f"An image is uint8 [H, W, 3] with H, W > 0; got {image.dtype} {list(image.shape)}.")
        least = _thresholds(queries, threshold)
        texts = self._texts(queries)
        told = perf_counter()
        seen = self._seen(image)
        proposer, classifier = self._proposer(seen), Classifier(self._classifier, seen, self.preset)
        opened = perf_counter()
        theta = np.fmin(np.float32(self.preset.theta), least)
        outcome = clip_as_rnn(proposer, classifier, texts, (seen.shape[0], seen.shape[1]), self.preset, theta)
        looked = perf_counter()
        rows = [row for row, i in enumerate(outcome.survivors) if not outcome.scores[i] < least[i]]
        surety = outcome.scores[[outcome.survivors[row] for row in rows]] ** np.float32(self.preset.score_power)
        index = draw(image, outcome.maps[rows] * surety[:, None, None], self.preset)
        drawn = [(outcome.survivors[row], index == place) for place, row in enumerate(rows, start=1)]
        found = [(i, mask) for i, mask in drawn if mask.any()]
        labels = [i for i, _ in found]
        names = [query.label for query in queries]
        return Segmentation(
            labels=tuple(names[i] for i in labels),
            masks=np.stack([mask for _, mask in found]) if found else np.zeros((0, *image.shape[:2]), bool),
            scores=outcome.scores[labels].clip(0, 1),
            raw_scores=dict(zip(names, outcome.scores.tolist(), strict=True)),
            steps=tuple(Step(tuple(names[i] for i in alive), scores) for alive, scores in outcome.passes),
            seconds={
                "texts": told - started,
                "trunk": opened - told,
                **outcome.seconds,
                "masks": perf_counter() - looked,
                "total": perf_counter() - started,
            },
        )

    def _texts(self, queries: Sequence[Query]) -> Texts:
        preset = self.preset
        rivals = without_synonyms(preset.rivals, queries)
        kept = preset.own_background == "keep"
        background = preset.background if kept else without_synonyms(preset.background, queries)

        def drawn(of: Sequence[Query], template: str) -> torch.Tensor:
            return text_bank(self._proposals, of, (template,))[:, 0]

        competing = (*background, *(rivals if preset.map_rivals == "yes" else ()))
        bank = text_bank(self._classifier, queries, preset.templates)
        first = drawn(queries, preset.first_template)
        return Texts(
            first=first,
            later=drawn(queries, preset.later_template),
            background=drawn(vocabulary(competing), preset.background_template) if competing else first[:0],
            bank=bank,
            rivals=text_bank(self._classifier, vocabulary(rivals), preset.templates) if rivals else bank[:0],
        )

    def _proposer(self, seen: NDArray[np.uint8]) -> Proposer:
        patch = self._proposals.patch
        height, width = (-(-side // patch) * patch for side in seen.shape[:2])
        return Proposer(self._proposals, self._proposals.pixels([resize(seen, height, width)]), self.preset)

    def _seen(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the image as CLIP sees it: scaled down until it has at most `max_patches`."""
        patch, most = self._proposals.patch, self.preset.max_patches
        height, width = bounded(image.shape[0], image.shape[1], patch, most)
        if not most:
            _refuse_beyond_memory(height, width, patch)
        return image if (height, width) == image.shape[:2] else shrink(image, height, width)


def _thresholds(queries: Sequence[Query], threshold: float | Mapping[str, float] | None) -> NDArray[np.float32]:
    """Return each query's least score [N], nan where none is asked for."""
    if isinstance(threshold, Mapping):
        return np.array([threshold.get(query.label, np.nan) for query in queries], np.float32)
    return np.full(len(queries), np.nan if threshold is None else threshold, np.float32)


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
