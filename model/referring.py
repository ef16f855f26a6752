"""Referring expressions: one mask for each object that sentences describe (CaR, Section 4.3).

Where labels compete for pixels, sentences do not: several may mean the same object. So each sentence has its map drawn
alone against the background, the sentences of one object compete only in the classifier, each survivor gets a CRF of
its own, and their masks are merged into one.

The released code scores sentences from the second pass on by single characters of the sentence, since it takes a list
of texts for a list of templates. Here they are scored by the whole sentence in every pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.canvas import Drawing, Drawn
from model.car import Draws, Outcome, Step
from model.presets import Preset
from model.scores import probabilities, reported
from model.segmentation import Segmentation
from model.segmenter import Segmenter, thresholds
from model.stream import Found
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
    return look(segmenter, image, objects, threshold).result()


def look(
    segmenter: Segmenter,
    image: NDArray[np.uint8],
    objects: Sequence[Query],
    threshold: float | Mapping[str, float] | None = None,
) -> Found[Segmentation]:
    """Do what needs CLIP; the masks of the sentences that survived are still to be drawn. See `refer`."""
    started = perf_counter()
    objects = [replace(query, prompts=tuple(dict.fromkeys(map(plain, query.prompts)))) for query in objects]
    check(objects)
    view = segmenter.open(image)
    view = replace(view, proposer=OneByOne(view.proposer))
    searches = []
    wanted = probabilities(thresholds(objects, threshold), segmenter.preset)
    for described, least in zip(objects, wanted, strict=True):
        sentences = vocabulary(described.prompts)
        outcome = segmenter.find(view, sentences, np.full(len(sentences), least, np.float32))
        searches.append(Search(described, outcome, least))
    refiner, one = segmenter.refiner.prepare(segmenter.preset), np.ones(1, np.float32)
    drawings = tuple(
        Drawing(image, soft[None], segmenter.preset, one, refiner)
        for search in searches
        for soft in search.outcome.maps
    )
    spent = {"trunk": view.seconds, "total": perf_counter() - started}
    preset, size = segmenter.preset, (image.shape[0], image.shape[1])
    return Found(drawings, lambda drawn: _composed(searches, drawn, size, preset, spent))


@dataclass(frozen=True)
class Search:
    """One object, what came of the recurrence over its sentences, and the score it needs, nan where any will do."""

    described: Query
    outcome: Outcome
    least: np.float32


def _composed(
    searches: Sequence[Search],
    drawn: Sequence[Drawn],
    size: tuple[int, int],
    preset: Preset,
    spent: Mapping[str, float],
) -> Segmentation:
    """Merge the sentences' drawings, which come object by object, into one mask for each object."""
    started = perf_counter()
    waiting = iter(drawn)
    found: list[tuple[str, NDArray[np.bool_], float]] = []
    raw_scores: dict[str, float] = {}
    steps: list[Step] = []
    seconds = {"trunk": spent["trunk"]}
    for search in searches:
        outcome, sentences = search.outcome, search.described.prompts
        masks = [drawing.index == 1 for drawing in islice(waiting, len(outcome.maps))]
        mask = (
            merged(masks, outcome.scores[list(outcome.survivors)], preset.sentences) if masks else np.zeros(size, bool)
        )
        best = outcome.scores.max()
        score = float(reported(best[None].clip(0, 1), preset)[0])
        raw_scores[search.described.label] = score
        steps += [Step(tuple(sentences[i] for i in alive), fits) for alive, fits in outcome.passes]
        for stage, taken in outcome.seconds.items():
            seconds[stage] = seconds.get(stage, 0) + taken
        if mask.any() and not best < search.least:
            found.append((search.described.label, mask, score))
    seconds["masks"] = sum(drawing.seconds for drawing in drawn) + perf_counter() - started
    return Segmentation(
        labels=tuple(label for label, _, _ in found),
        masks=np.stack([mask for _, mask, _ in found]) if found else np.zeros((0, *size), bool),
        scores=np.array([score for _, _, score in found], np.float32),
        raw_scores=raw_scores,
        steps=tuple(steps),
        seconds={**seconds, "total": spent["total"] + seconds["masks"]},
    )


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

    def propose(self, texts: Tensor, background: Tensor, wanted: Sequence[int]) -> Tensor:
        """Return soft maps [wanted, h, w] in 0..1."""
        return torch.cat([self._proposer.propose(texts[[row]], background, [0]) for row in wanted])
