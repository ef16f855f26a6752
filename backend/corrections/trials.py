"""Other settings of the method tried on corrected images: eta, lambda, and regions from half of theta on.

Only `python -m backend corrections --calibrate --settings` comes here: it imports the model. Each image is segmented
once for each setting that is tried; settings are varied one after the other, each from the best so far. The tasks
that choose are not those that judge (`backend.corrections.calibration`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from backend.corrections.calibration import (
    Sample,
    Table,
    best_thresholds,
    better,
    decide,
    halves,
    judged,
    miou,
    too_few,
)
from backend.corrections.proposals import Proposal, ProposalError
from model.scores import reported
from model.segmentation import Segmentation
from model.segmenter import Segmenter
from model.vocabulary import Query

Mask = NDArray[np.bool_]
Draw = Callable[[Mask], Mask]

ETAS = (0.2, 0.3, 0.4, 0.5, 0.6)
LAMBDAS = (0.3, 0.5, 0.7)
LOWER = 0.5
"""Share of theta from which regions are drawn when lower thresholds are tried."""


def as_it_is(mask: Mask) -> Mask:
    """What a brush draws of a mask."""
    return mask


@dataclass(frozen=True)
class Example:
    """A corrected image: how to get it, uint8 [H, W, 3], and how to get the submitted masks, label -> bool [H, W]."""

    task: int
    image: Callable[[], NDArray[np.uint8]]
    masks: Callable[[], Mapping[str, Mask]]


@dataclass(frozen=True)
class Setting:
    """What is tried: eta, lambda, and the score by label from which regions are drawn (None: theta decides)."""

    eta: float
    lambda_: float
    floors: tuple[tuple[str, float], ...]


class Trials:
    """Segments examples under settings, each pair once."""

    def __init__(
        self,
        segmenter: Segmenter,
        queries: Sequence[Query],
        examples: Iterable[Example],
        tick: Callable[[], object] = lambda: None,
        drawn: Draw = as_it_is,
    ):
        """`tick` is called after each image. The segmenter is a preset with its weights; settings vary from there.

        drawn: how the project draws a mask that was found.
        """
        self.drawn = drawn
        self.segmenter = segmenter
        self.queries = queries
        self.examples = {example.task: example for example in examples}
        self.tick = tick
        self._samples: dict[tuple[Setting, int], list[Sample]] = {}

    def samples(self, setting: Setting, tasks: Sequence[int]) -> list[Sample]:
        """The samples of some tasks under a setting."""
        return [sample for task in tasks for sample in self._of(setting, task)]

    def _directions(self) -> list[list[Callable[[Setting], Setting]]]:
        """What is varied, one after the other; each list holds ways to make a setting from the best so far."""
        preset = self.segmenter.preset
        lower = float(reported(np.array([LOWER * preset.theta], np.float32), preset)[0])
        return [
            [lambda best: best, *(_with(eta=eta) for eta in ETAS)],
            [_with(lambda_=lambda_) for lambda_ in LAMBDAS],
            [_with(floors=tuple((query.label, round(lower, 4)) for query in self.queries))],
        ]

    def _of(self, setting: Setting, task: int) -> list[Sample]:
        if (setting, task) not in self._samples:
            self._samples[setting, task] = self._segment(setting, self.examples[task])
            self.tick()
        return self._samples[setting, task]

    def _segment(self, setting: Setting, example: Example) -> list[Sample]:
        preset = replace(self.segmenter.preset, eta=setting.eta, lambda_=setting.lambda_)
        found = self.segmenter.under(preset).segment(example.image(), self.queries, dict(setting.floors))
        return samples_of(example.task, self.queries, found, example.masks(), self.drawn)

    def propose(self, start: Setting, seed: int = 0) -> Proposal:
        """Thresholds, eta and lambda for these examples, chosen on one half and judged on the other.

        start: how the project is set now.
        """
        refusal = too_few(len(self.examples))
        if refusal:
            return refusal
        chose, judge = halves(list(self.examples), seed)
        best, thresholds = start, dict[str, float]()
        value = miou(*Table.of(self.samples(start, chose)).areas({}))
        for variants in self._directions():
            for setting in dict.fromkeys(vary(best) for vary in variants):
                table = Table.of(self.samples(setting, chose))
                candidate = best_thresholds(table, dict(setting.floors))
                reached = miou(*table.areas(candidate))
                if better(reached, value):
                    best, thresholds, value = setting, candidate, reached
        before, after = (Table.of(self.samples(setting, judge)) for setting in (start, best))
        return decide(
            Proposal(
                False,
                "",
                {**dict(best.floors), **thresholds},
                len(chose),
                judged(before, after, thresholds, seed),
                best.eta,
                best.lambda_,
            )
        )


def samples_of(
    task: int, queries: Sequence[Query], found: Segmentation, wanted: Mapping[str, Mask], drawn_as: Draw = as_it_is
) -> list[Sample]:
    """The samples of one task: what was found beside the masks [H, W] that were wanted, by label.

    Raises ProposalError where these are of another size than the image.
    """
    if any(mask.shape != found.masks.shape[1:] for mask in wanted.values()):
        raise ProposalError(
            f"The regions of task {task} are of another size than its image; correct its annotation, or delete it."
        )
    drawn = {label: drawn_as(mask) for label, mask in zip(found.labels, found.masks, strict=True)}
    names = dict.fromkeys([*(query.label for query in queries), *wanted])
    return [_sample(task, name, found.raw_scores.get(name, 0.0), drawn, wanted) for name in names]


def _with(**values: object) -> Callable[[Setting], Setting]:
    return lambda best: replace(best, **values)  # type: ignore[arg-type]


def _sample(
    task: int,
    label: str,
    score: float,
    drawn: Mapping[str, Mask],
    wanted: Mapping[str, Mask],
) -> Sample:
    ours, theirs = drawn.get(label), wanted.get(label)
    common = int((ours & theirs).sum()) if ours is not None and theirs is not None else 0
    return Sample(
        task,
        label,
        score,
        predicted=0 if ours is None else int(ours.sum()),
        submitted=0 if theirs is None else int(theirs.sum()),
        common=common,
    )
