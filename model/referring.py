"""Referring expressions: one mask for each object that sentences describe (CaR, Section 4.3).

Where labels compete for pixels, sentences do not: several may mean the same object. So each sentence has its map drawn
alone against the background, the sentences of one object compete only in the classifier, each survivor gets a CRF of
its own, and their masks are merged into one.

The released code scores sentences from the second pass on by single characters of the sentence, since it takes a list
of texts for a list of templates. Here they are scored by the whole sentence in every pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model.canvas import draw
from model.car import Draws, Maps, Outcome, Step
from model.segmenter import Segmentation, Segmenter, View, thresholds
from model.vocabulary import Query, check, plain, vocabulary

SMALL = 0.05  # a merged mask of at most this share of the image gives way to the union (released code)


def refer(
    segmenter: Segmenter,
    image: NDArray[np.uint8],
    objects: Sequence[Query],
    threshold: float | Mapping[str, float] | None = None,
) -> Segmentation:
    """Find what sentences describe in an image, uint8 [H, W, 3] RGB: each query is an object, its prompts sentences.

    Objects do not know of each other, so that masks may overlap. An object's score is that of its best sentence: 1 for
    a sentence without rivals. Settings and errors are those of `Segmenter.segment`; `sentences` says how masks merge.
    """
    started = perf_counter()
    objects = [replace(query, prompts=tuple(dict.fromkeys(map(plain, query.prompts)))) for query in objects]
    check(objects)
    view = segmenter.open(image)
    view = replace(view, proposer=OneByOne(view.proposer))
    found: list[tuple[str, NDArray[np.bool_], np.float32]] = []
    raw_scores: dict[str, float] = {}
    steps: list[Step] = []
    seconds = {"trunk": view.seconds}
    for described, least in zip(objects, thresholds(objects, threshold), strict=True):
        outcome, mask = _object(segmenter, view, described.prompts, least)
        score = outcome.scores.max()
        raw_scores[described.label] = float(score)
        steps += [Step(tuple(described.prompts[i] for i in alive), fits) for alive, fits in outcome.passes]
        for stage, spent in outcome.seconds.items():
            seconds[stage] = seconds.get(stage, 0) + spent
        if mask.any() and not score < least:
            found.append((described.label, mask, score))
    return Segmentation(
        labels=tuple(label for label, _, _ in found),
        masks=np.stack([mask for _, mask, _ in found]) if found else np.zeros((0, *image.shape[:2]), bool),
        scores=np.array([score for _, _, score in found], np.float32).clip(0, 1),
        raw_scores=raw_scores,
        steps=tuple(steps),
        seconds={**seconds, "total": perf_counter() - started},
    )


def _object(
    segmenter: Segmenter, view: View, sentences: tuple[str, ...], least: np.float32
) -> tuple[Outcome, NDArray[np.bool_]]:
    """Search one object by its sentences: what came of them, and the merged mask [H, W], maybe empty."""
    outcome = segmenter.find(view, vocabulary(sentences), np.full(len(sentences), least, np.float32))
    started = perf_counter()
    masks = [draw(view.image, soft[None], segmenter.preset) == 1 for soft in outcome.maps]
    scores = outcome.scores[list(outcome.survivors)]
    mask = merged(masks, scores, segmenter.preset.sentences) if masks else np.zeros(view.image.shape[:2], bool)
    outcome.seconds["masks"] = perf_counter() - started
    return outcome, mask


def merged(masks: Sequence[NDArray[np.bool_]], scores: NDArray[np.float32], rule: str) -> NDArray[np.bool_]:
    """Merge the masks [H, W] of an object's sentences, given their scores [S].

    rule: `weighted`: where sentences of half the score agree; if that is at most 5 % of the image, the union (released
    code). `union`: wherever one says so. `best`: what the best sentence says.
    """
    stacked = np.stack(masks)
    if rule == "best":
        return np.asarray(stacked[scores.argmax()])
    weights = scores.astype(np.float64)
    agreed = np.asarray(np.tensordot(weights, stacked, axes=1) >= weights.sum() / 2)
    large = weights.any() and agreed.mean() > SMALL
    return agreed if rule == "weighted" and large else np.asarray(stacked.any(axis=0))


class OneByOne:
    """A proposer that draws each text alone against the background, as if there were no other."""

    def __init__(self, proposer: Draws) -> None:
        self._proposer = proposer

    def presence(self, texts: Tensor, background: Tensor) -> NDArray[np.float64]:
        """Return each text's probability [T] for the image as a whole, among itself and the background."""
        return np.concatenate([self._proposer.presence(text[None], background) for text in texts])

    def tags(self, texts: Tensor, background: Tensor) -> NDArray[np.float32]:
        """Return each text's probability [T] for the patch that fits it best, among itself and the background."""
        return np.concatenate([self._proposer.tags(text[None], background) for text in texts])

    def propose(self, texts: Tensor, background: Tensor, wanted: Sequence[int]) -> Maps:
        """Return soft maps [wanted, h, w] in 0..1."""
        return np.concatenate([self._proposer.propose(texts[[row]], background, [0]) for row in wanted])
