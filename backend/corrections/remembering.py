"""A memory made of corrected tasks (`model.memory`), and judged on others: does it help where it was not taught?

`python -m backend corrections --memory` alone comes here: it imports the model. Every corrected task teaches how its
submitted masks look, and that predictions which were deleted are nothing. How much the memory may say is chosen on
half of the tasks, each judged by what the others teach; the other half judges what came of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.corrections.calibration import Sample, Table, better, decide, halves, judged, miou, too_few
from backend.corrections.proposals import Proposal
from backend.corrections.trials import Draw, Example, as_it_is, samples_of
from model.memory import NOTHING, Memory, Strength
from model.segmentation import Segmentation
from model.segmenter import Segmenter
from model.vocabulary import Query

Masks = Mapping[str, NDArray[np.bool_]]

SHARES = (0.5, 1.0)
"""Shares of the verdict that are tried."""
UNLIKE = 0.95
"""So alike regions of different labels may look, in this share of all cases: mistakes of annotators among the rest."""
COVERED = 0.5
"""A deleted prediction is nothing unless this share of it lies in submitted masks: it may have been relabelled."""


@dataclass(frozen=True)
class Found:
    """One task segmented: samples beside what was submitted, and beside what is right (the same but in experiments)."""

    submitted: list[Sample]
    right: list[Sample]


class Remembering:
    """Makes memories of corrected images, and segments others with them."""

    def __init__(
        self,
        segmenter: Segmenter,
        queries: Sequence[Query],
        examples: Iterable[Example],
        thresholds: Mapping[str, float] | None = None,
        tick: Callable[[], object] = lambda: None,
        submitted: Callable[[Example], Masks] = lambda example: example.masks(),
        drawn: Draw = as_it_is,
    ):
        """`segmenter` has no memory of its own. `tick` is called after each image.

        submitted: the masks that teach and choose, where others are right. drawn: how the project draws a mask.
        """
        self.drawn = drawn
        self.segmenter = segmenter
        self.queries = queries
        self.examples = {example.task: example for example in examples}
        self.thresholds = dict(thresholds or {})
        self.tick = tick
        self.submitted = submitted
        self._plain: dict[int, Found] = {}
        self._lessons: dict[int, Memory] = {}

    def propose(self, seed: int = 0) -> tuple[Proposal, Memory | None]:
        """What a memory of these tasks is worth; and it, made of all of them, if that is enough."""
        refusal = too_few(len(self.examples))
        if refusal:
            return refusal, None
        chose, judge = halves(list(self.examples), seed)
        strengths = self._strengths(self.memory(chose))
        if not strengths:
            reason = "Regions of one label look no more alike than those of different labels. Nothing is changed."
            return Proposal(False, reason, {}, len(chose)), None
        value, best = miou(*_table(self.plain(task).submitted for task in chose).areas({})), None
        for strength in strengths:
            taught = self.memory(chose, strength)
            table = _table(self.segment(task, taught.forget(task)).submitted for task in chose)
            if better(reached := miou(*table.areas({})), value):
                value, best = reached, strength
        if best is None:
            reason = (
                f"No gain: on the {len(chose)} tasks that choose, no memory of the others helps. Nothing is changed."
            )
            return Proposal(False, reason, {}, len(chose)), None
        taught = self.memory(chose, best)
        before = _table(self.plain(task).right for task in judge)
        after = _table(self.segment(task, taught).right for task in judge)
        proposal = decide(Proposal(False, "", {}, len(chose), judged(before, after, {}, seed)))
        return proposal, self.memory(list(self.examples), best) if proposal.accepted else None

    def memory(self, tasks: Sequence[int], strength: Strength | None = None) -> Memory:
        """What some tasks teach."""
        lessons = [self.lesson(task) for task in tasks]
        return Memory(
            self.segmenter.towers.origin(self.segmenter.preset),
            strength or Strength(0, 0, 1),
            tuple(label for lesson in lessons for label in lesson.labels),
            np.concatenate([lesson.tasks for lesson in lessons]),
            np.concatenate([lesson.scored for lesson in lessons]),
            np.concatenate([lesson.drawn for lesson in lessons]),
        )

    def lesson(self, task: int) -> Memory:
        """What one task teaches."""
        if task not in self._lessons:
            self.plain(task)
        return self._lessons[task]

    def plain(self, task: int) -> Found:
        """A task segmented without a memory."""
        if task not in self._plain:
            example = self.examples[task]
            image, submitted = example.image(), self.submitted(example)
            found = self.segmenter.segment(image, self.queries, self.thresholds)
            self._lessons[task] = self._taught(task, image, found, submitted)
            self._plain[task] = self._found(example, found, submitted)
        return self._plain[task]

    def segment(self, task: int, memory: Memory) -> Found:
        """A task segmented with a memory."""
        example = self.examples[task]
        segmenter = self.segmenter.under(self.segmenter.preset, memory)
        found = segmenter.segment(example.image(), self.queries, self.thresholds)
        return self._found(example, found, self.submitted(example))

    def _found(self, example: Example, found: Segmentation, submitted: Masks) -> Found:
        right = example.masks()
        self.tick()
        own = (samples_of(example.task, self.queries, found, masks, self.drawn) for masks in (submitted, right))
        return Found(*own)

    def _taught(self, task: int, image: NDArray[np.uint8], found: Segmentation, submitted: Masks) -> Memory:
        known = {query.label for query in self.queries}
        regions = [(label, mask) for label, mask in submitted.items() if label in known and mask.any()]
        covered = np.any([mask for _, mask in regions], axis=0) if regions else np.zeros(image.shape[:2], bool)
        regions += [
            (NOTHING, mask)
            for label, mask in zip(found.labels, found.masks, strict=True)
            if label not in submitted and (mask & covered).sum() < COVERED * mask.sum()
        ]
        scored, drawn = self.segmenter.looks(image, [mask for _, mask in regions])
        labels = tuple(label for label, _ in regions)
        origin, numbers = self.segmenter.towers.origin(self.segmenter.preset), np.full(len(labels), task)
        return Memory(origin, Strength(0, 0, 1), labels, numbers, scored, drawn)

    def _strengths(self, memory: Memory) -> list[Strength]:
        """Strengths worth a try: from how alike regions of one label look in different tasks, and of different ones."""
        cosines = memory.scored @ memory.scored.T
        labels = np.array(memory.labels)
        apart = memory.tasks[:, None] != memory.tasks
        same = labels[:, None] == labels
        alike, others = cosines[same & (labels != NOTHING) & apart], cosines[~same & apart]
        if not len(alike) or not len(others):
            return []
        near, unlike = float(np.median(alike)), float(np.quantile(others, UNLIKE))
        reach = (near + unlike) / 2
        return [Strength(share, round(reach, 4), round(near, 4)) for share in SHARES] if unlike < near else []


def _table(samples: Iterable[list[Sample]]) -> Table:
    return Table.of([sample for one in samples for sample in one])
