"""CLIP as RNN: the recurrence (CaR, Algorithm 1), to be read beside the paper.

Queries that no part of the image answers to are dropped, and the maps of the rest are drawn again without them: the
frozen CLIP is the cell, the list of queries its hidden state. Two stages do the work: the proposer draws a soft map for
each query, the classifier says how well the image, prompted with that map, fits the query.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.presets import Preset
from model.prompts import Mask
from model.sizes import enlarge

Maps = NDArray[np.float32]


class Draws(Protocol):
    """What the recurrence needs of `proposals.Proposer`."""

    def presence(self, texts: Tensor, background: Tensor) -> NDArray[np.float64]:
        """Return each text's probability for the image as a whole, among texts and background."""

    def propose(self, texts: Tensor, background: Tensor, wanted: Sequence[int]) -> Maps:
        """Return soft maps [wanted, h, w] in 0..1."""


class Scores(Protocol):
    """What the recurrence needs of `classifier.Classifier`."""

    def score(self, masks: Sequence[Mask | None], bank: Tensor, wanted: Sequence[int]) -> NDArray[np.float32]:
        """Return the score of `bank[wanted[i]]` for mask i, among all texts of the bank."""


@dataclass(frozen=True)
class Texts:
    """The embeddings of everything that competes, N queries first to last.

    first, later: [N, E] for the maps of the first pass and of the later ones. background: [B, E]. bank: [N, T, E] and
    rivals: [M, T, E] for the classifier.
    """

    first: Tensor
    later: Tensor
    background: Tensor
    bank: Tensor
    rivals: Tensor


@dataclass(frozen=True)
class Step:
    """One pass of the recurrence: the labels that survived it, in the vocabulary's order, and their scores."""

    queries: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Outcome:
    """Where the recurrence came to rest: K survivors by index, their maps [K, h, w], every query's last score [N]."""

    survivors: tuple[int, ...]
    maps: Maps
    scores: NDArray[np.float32]
    passes: tuple[tuple[tuple[int, ...], tuple[float, ...]], ...]
    seconds: dict[str, float]


def clip_as_rnn(
    proposer: Draws, classifier: Scores, texts: Texts, size: tuple[int, int], preset: Preset, theta: NDArray[np.float32]
) -> Outcome:
    """Draw, score, drop, and again until nothing is dropped.

    With `presence`, queries that the image as a whole does not answer to are not drawn at all and score 0. `size` is
    the image's (height, width); theta is [N].
    """
    alive = list(range(len(texts.bank)))
    scores = np.zeros(len(alive), np.float32)
    if preset.presence > 0 and preset.recurrence != "none":
        alive = np.flatnonzero(proposer.presence(texts.first, texts.background) > preset.presence).tolist()
    maps: Maps = np.zeros((0, 1, 1), np.float32)
    passes: list[tuple[tuple[int, ...], tuple[float, ...]]] = []
    seconds = {"proposals": 0.0, "classifier": 0.0}
    while alive:
        started = perf_counter()
        queries = (texts.later if passes else texts.first)[alive]
        rows = range(len(alive))
        maps = proposer.propose(queries, texts.background, rows)
        drawn = perf_counter()
        fits = score_maps(classifier, maps, torch.cat([texts.bank[alive], texts.rivals]), size, preset)
        scores[alive] = fits
        kept = list(rows) if filtered_enough(preset, len(passes)) else survivors(fits, theta[alive], preset.keep_best)
        settled = len(kept) == len(alive) and (bool(passes) or preset.first_template == preset.later_template)
        alive = [alive[row] for row in kept]
        passes.append((tuple(alive), tuple(float(fits[row]) for row in kept)))
        seconds["proposals"] += drawn - started
        seconds["classifier"] += perf_counter() - drawn
        if settled or preset.recurrence == "none":
            break
    return Outcome(tuple(alive), maps[: len(alive)], scores, tuple(passes), seconds)


def filtered_enough(preset: Preset, passes: int) -> bool:
    """Whether this pass only draws: always without recurrence, from the second pass on with one filtering."""
    return preset.recurrence == "none" or (preset.recurrence == "once" and passes > 0)


def survivors(scores: NDArray[np.float32], theta: NDArray[np.float32], keep_best: str) -> list[int]:
    """Return the rows whose score exceeds theta (CaR, Eq. 6); with `keep_best`, the best row if there is none."""
    kept = np.flatnonzero(scores > theta).tolist()
    return kept or ([int(scores.argmax())] if keep_best == "yes" else [])


def score_maps(
    classifier: Scores, maps: Maps, bank: Tensor, size: tuple[int, int], preset: Preset
) -> NDArray[np.float32]:
    """Return the score [R] of each map's own text, row i of the bank for map i.

    An all but empty map has no mask to look at: it scores 0, or as the unprompted image (`empty_map`).
    """
    masks = [mask_of(soft, size, preset) for soft in maps]
    looked = [row for row, mask in enumerate(masks) if mask is not None or preset.empty_map == "whole"]
    scores = np.zeros(len(masks), np.float32)
    if looked:
        scores[looked] = classifier.score([masks[row] for row in looked], bank, looked)
    return scores


def mask_of(soft: Maps, size: tuple[int, int], preset: Preset) -> Mask | None:
    """Return where a soft map [h, w], enlarged to (height, width), exceeds eta; None if it is practically empty."""
    full = enlarge(soft[None], *size)[0]
    mask = np.asarray(full > preset.eta)
    empty = full.sum() <= 1 or (preset.empty_map == "drop" and not mask.any())
    return None if empty else mask
