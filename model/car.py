"""CLIP as RNN: the recurrence (CaR, Algorithm 1), to be read beside the paper.

Queries that no part of the image answers to are dropped, and the maps of the rest are drawn again without them: the
frozen CLIP is the cell, the list of queries its hidden state. Two stages do the work: the proposer draws a soft map for
each query, the classifier says how well the image, prompted with that map, fits the query.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.presets import Preset
from model.prompts import Mask

Maps = NDArray[np.float32]
Progress = Callable[[str, int, int], None]
SLICE = 64  # maps that are masks of the image's size at once: a thousand labels must fit into memory


def silent(stage: str, done: int, of: int) -> None:
    """Tell nobody: what hears of the progress if nothing else does."""


class Draws(Protocol):
    """What the recurrence needs of `proposals.Proposer`."""

    def presence(self, texts: Tensor, background: Tensor) -> NDArray[np.float64]:
        """Return each text's probability for the image as a whole, among texts and background."""

    def tags(self, texts: Tensor, background: Tensor) -> NDArray[np.float32]:
        """Return each text's probability for the patch that fits it best, among texts and background."""

    def propose(self, texts: Tensor, background: Tensor, wanted: Sequence[int]) -> Tensor:
        """Return soft maps [wanted, h, w] in 0..1, where the classifier is."""


class Scores(Protocol):
    """What the recurrence needs of `classifier.Classifier`."""

    def score(
        self, masks: Sequence[Mask | None], bank: Tensor, wanted: Sequence[int], alive: Sequence[int]
    ) -> NDArray[np.float32]:
        """Return the score of `bank[wanted[i]]` for mask i, among the bank's: `alive` queries, and rivals."""


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
    """Where the recurrence came to rest: K survivors by index, their maps [K, h, w], every query's last score [N].

    unaided: those scores without what is remembered, if anything is.
    """

    survivors: tuple[int, ...]
    maps: Maps
    scores: NDArray[np.float32]
    passes: tuple[tuple[tuple[int, ...], tuple[float, ...]], ...]
    seconds: dict[str, float]
    unaided: NDArray[np.float32] | None = None


def clip_as_rnn(
    proposer: Draws,
    classifier: Scores,
    texts: Texts,
    size: tuple[int, int],
    preset: Preset,
    theta: NDArray[np.float32],
    progress: Progress = silent,
) -> Outcome:
    """Draw, score, drop, and again until nothing is dropped.

    With `presence`, queries that the image as a whole does not answer to are not drawn at all and score 0. With `tags`,
    those that no single patch answers to are not drawn in the first pass, but compete. `size` is the image's (height,
    width); theta is [N]. `progress` hears a stage, how many labels are done in this pass, and of how many.
    """
    alive = list(range(len(texts.bank)))
    scores = np.zeros(len(alive), np.float32)
    if preset.presence > 0 and preset.recurrence != "none":
        alive = np.flatnonzero(proposer.presence(texts.first, texts.background) > preset.presence).tolist()
    maps = torch.zeros(0, 1, 1)
    passes: list[tuple[tuple[int, ...], tuple[float, ...]]] = []
    seconds = {"proposals": 0.0, "classifier": 0.0}
    while alive:
        queries = (texts.later if passes else texts.first)[alive]
        bank = torch.cat([texts.bank[alive], texts.rivals])
        fits = np.full(len(alive), -np.inf, np.float32)
        for rows in candidates(proposer, queries, texts.background, len(passes), preset):
            started = perf_counter()
            maps = proposer.propose(queries, texts.background, rows) if rows else maps[:0]
            progress("maps", len(rows), len(rows))
            drawn = perf_counter()
            fits[rows] = score_maps(classifier, maps, bank, rows, alive, size, preset, progress)
            seconds["proposals"] += drawn - started
            seconds["classifier"] += perf_counter() - drawn
            if preset.keep_best == "no" or (fits > theta[alive]).any():
                break
        scores[alive] = fits.clip(min=0)
        enough = filtered_enough(preset, len(passes))
        kept = list(range(len(alive))) if enough else survivors(fits, theta[alive], preset.keep_best)
        settled = len(kept) == len(alive) and (bool(passes) or preset.first_template == preset.later_template)
        alive = [alive[row] for row in kept]
        passes.append((tuple(alive), tuple(float(fits[row]) for row in kept)))
        if settled or preset.recurrence == "none":
            break
    return Outcome(tuple(alive), maps[: len(alive)].cpu().numpy(), scores, tuple(passes), seconds)


def filtered_enough(preset: Preset, passes: int) -> bool:
    """Whether this pass only draws: always without recurrence, from the second pass on with one filtering."""
    return preset.recurrence == "none" or (preset.recurrence == "once" and passes > 0)


def survivors(scores: NDArray[np.float32], theta: NDArray[np.float32], keep_best: str) -> list[int]:
    """Return the rows whose score exceeds theta (CaR, Eq. 6); with `keep_best`, the best row if there is none."""
    kept = np.flatnonzero(scores > theta).tolist()
    return kept or ([int(scores.argmax())] if keep_best == "yes" else [])


def candidates(proposer: Draws, queries: Tensor, background: Tensor, passes: int, preset: Preset) -> list[list[int]]:
    """Return the rows to draw, and, should none of them survive where one must, those to draw then.

    All, unless `tags` leaves rows out: exact if it leaves out no row that would survive, since their texts compete on.
    """
    everyone = list(range(len(queries)))
    if preset.tags == 0 or passes or preset.recurrence == "none":
        return [everyone]
    hopeful = np.flatnonzero(proposer.tags(queries, background) > preset.tags).tolist()
    return [hopeful, everyone] if preset.keep_best == "yes" else [hopeful]


def score_maps(
    classifier: Scores,
    maps: Tensor,
    bank: Tensor,
    rows: Sequence[int],
    alive: Sequence[int],
    size: tuple[int, int],
    preset: Preset,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """Return the score [R] of each map's own text, `bank[rows[i]]` for map i; the bank's first texts are `alive`.

    An all but empty map has no mask to look at: it scores 0, or as the unprompted image (`empty_map`).
    """
    scores = np.zeros(len(maps), np.float32)
    for start in range(0, len(maps), SLICE):
        masks = masks_of(maps[start : start + SLICE], size, preset)
        looked = [row for row, mask in enumerate(masks) if mask is not None or preset.empty_map == "whole"]
        if looked:
            own = [rows[start + row] for row in looked]
            scores[[start + row for row in looked]] = classifier.score([masks[row] for row in looked], bank, own, alive)
        progress("scores", min(start + SLICE, len(maps)), len(maps))
    return scores


def masks_of(maps: Tensor, size: tuple[int, int], preset: Preset) -> list[Mask | None]:
    """Return where soft maps [R, h, w], enlarged to (height, width), exceed eta; None for one that is all but empty."""
    full = F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    masks = full > preset.eta
    empty = full.sum(dim=(1, 2)) <= 1
    if preset.empty_map == "drop":
        empty |= ~masks.flatten(1).any(dim=1)
    return [None if nothing else mask for mask, nothing in zip(masks, empty.tolist(), strict=True)]
