"""What comes out: the runs of the recurrence, laid over each other, as labels, masks and scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from model.canvas import Drawing, Drawn
from model.car import Outcome, Step
from model.mutual import Run
from model.regions import Refiner
from model.scores import reported


@dataclass(frozen=True)
class Segmentation:
    """What was found in one image of H x W pixels.

    labels: the K labels found, in the vocabulary's order. masks: bool [K, H, W], none empty; disjoint, but for those of
    referring expressions. scores: float32 [K], 0..1. raw_scores: every label's last score, dropped ones too. steps: the
    passes of the recurrence (of stuff, then of things, where they are apart; of the image, then of its tiles), with the
    probabilities that theta compares with (see `model.scores`). seconds: per stage. unaided: raw_scores as CLIP alone
    would have them, without the memory.
    """

    labels: tuple[str, ...]
    masks: NDArray[np.bool_]
    scores: NDArray[np.float32]
    raw_scores: Mapping[str, float]
    steps: tuple[Step, ...]
    seconds: Mapping[str, float]
    unaided: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Search:
    """One run of the recurrence and what came of it; least: the scores [N] its labels need, nan where any will do."""

    run: Run
    outcome: Outcome
    least: NDArray[np.float32]

    @property
    def shown(self) -> list[int]:
        """The survivors that reach their least score, by their place among the survivors."""
        outcome = self.outcome
        return [row for row, i in enumerate(outcome.survivors) if not outcome.scores[i] < self.least[i]]

    @property
    def numbers(self) -> NDArray[np.uint16]:
        """What the numbers of the drawing, 0 = background, mean in the image: the query's place among all, plus 1."""
        return np.array([0, *(self.run.rows[self.outcome.survivors[row]] + 1 for row in self.shown)], np.uint16)

    def drawing(self, image: NDArray[np.uint8], refiner: Refiner) -> Drawing:
        """Return what is to be drawn: maps times their scores to the power `score_power`, the surer one wins."""
        outcome, rows = self.outcome, self.shown
        scores = outcome.scores[[outcome.survivors[row] for row in rows]]
        surety = scores ** np.float32(self.run.preset.score_power)
        return Drawing(image, outcome.maps[rows] * surety[:, None, None], self.run.preset, scores, refiner)


def composed(
    names: Sequence[str],
    size: tuple[int, int],
    searches: Sequence[Search],
    drawn: Sequence[Drawn],
    spent: Mapping[str, float],
) -> Segmentation:
    """Lay the runs' drawings over each other, in order, and say what is in them."""
    started = perf_counter()
    index: NDArray[np.uint16] | None = None
    scores, unaided = np.zeros((2, len(names)), np.float32)
    steps: list[Step] = []
    seconds = {"trunk": spent["trunk"]}
    for search, drawing in zip(searches, drawn, strict=True):
        rows, outcome = search.run.rows, search.outcome
        layer = search.numbers[drawing.index]
        index = layer if index is None else np.where(layer > 0, layer, index)
        scores[list(rows)] = outcome.scores
        unaided[list(rows)] = outcome.scores if outcome.unaided is None else outcome.unaided
        steps += [Step(tuple(names[rows[i]] for i in alive), fits) for alive, fits in outcome.passes]
        for stage, taken in {**outcome.seconds, "masks": drawing.seconds}.items():
            seconds[stage] = seconds.get(stage, 0) + taken
    told, alone = (reported(each.clip(0, 1), searches[0].run.preset) for each in (scores, unaided))
    candidates = sorted({number for search in searches for number in search.numbers[1:].tolist()})
    found = [(number - 1, mask) for number in candidates if (mask := index == number).any()]
    labels = [row for row, _ in found]
    seconds["masks"] += perf_counter() - started
    return Segmentation(
        labels=tuple(names[i] for i in labels),
        masks=np.stack([mask for _, mask in found]) if found else np.zeros((0, *size), bool),
        scores=told[labels],
        raw_scores=dict(zip(names, told.tolist(), strict=True)),
        steps=tuple(steps),
        seconds={**seconds, "total": spent["total"] + seconds["masks"]},
        unaided=dict(zip(names, alone.tolist(), strict=True)),
    )
