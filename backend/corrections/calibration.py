"""Calibration without training: which thresholds would have drawn what annotators left standing.

A sample is one label in one corrected task: its raw score, whether it was drawn, and how far the drawn mask agrees with
the submitted one. One logistic regression says how probable a label is at a score: the slope is shared, each label has
an intercept of its own that a Gaussian prior holds near zero, so that a label seen three times moves a little and one
never seen not at all. One number then remains to be chosen, the probability from which a region is kept: the one
with the best mIoU, or the highest that misses at most a share of the labels (conformal risk control). The tasks that
chose it do not judge it: half of them are held out. Pure functions over numpy; nothing here knows Redis or CLIP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from backend.corrections.presence import Floats, Presence, fit_presence
from backend.corrections.proposals import Outcome, Proposal
from backend.corrections.records import Correction, compared

NEWEST_TASKS = 500
"""Tasks at most whose corrections are fitted."""
LEAST_TASKS = 10
"""Corrected tasks below which nothing is moved."""
LEAST_GAIN = 0.005
SURE = 0.9
"""A proposal must gain so much mIoU on the held-out tasks, and gain in this share of their bootstrap resamples."""
RESAMPLES = 1000
CUTS = np.round(np.arange(0.0, 0.96, 0.02), 2)
"""Probabilities from which a region may be kept; 0 keeps all."""


@dataclass(frozen=True)
class Sample:
    """One label in one task: its score, 0..1, and pixels (of the drawn mask, of the submitted one, of both)."""

    task: int
    label: str
    score: float
    predicted: int
    submitted: int
    common: int

    @property
    def present(self) -> bool:
        """Whether the annotator submitted the label."""
        return self.submitted > 0


@dataclass(frozen=True)
class Table:
    """Samples of T tasks and L labels as matrices [T, L]; a label that a task has no sample of counts nothing there."""

    tasks: tuple[int, ...]
    labels: tuple[str, ...]
    scores: Floats
    predicted: Floats
    submitted: Floats
    common: Floats

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Table:
        """Arrange samples by task and label."""
        tasks = tuple(sorted({sample.task for sample in samples}))
        labels = tuple(sorted({sample.label for sample in samples}))
        row, column = ({name: i for i, name in enumerate(names)} for names in (tasks, labels))
        values = np.zeros((4, len(tasks), len(labels)))
        for one in samples:
            values[:, row[one.task], column[one.label]] = one.score, one.predicted, one.submitted, one.common
        return cls(tasks, labels, *values)

    def only(self, tasks: Sequence[int]) -> Table:
        """The rows of some tasks."""
        rows = [row for row, task in enumerate(self.tasks) if task in set(tasks)]
        arrays = (getattr(self, name)[rows] for name in ("scores", "predicted", "submitted", "common"))
        return Table(tuple(self.tasks[row] for row in rows), self.labels, *arrays)

    @cached_property
    def seen(self) -> tuple[str, ...]:
        """Labels that were drawn or submitted at least once."""
        areas = (self.predicted + self.submitted).sum(axis=0).tolist()
        return tuple(label for label, area in zip(self.labels, areas, strict=True) if area)

    def areas(self, thresholds: Mapping[str, float]) -> tuple[Floats, Floats]:
        """Intersections and unions [T, L] if regions below their label's threshold were left out."""
        least = np.array([thresholds.get(label, 0.0) for label in self.labels])
        kept = (self.predicted > 0) & (self.scores >= least)
        return np.where(kept, self.common, 0), self.submitted + np.where(kept, self.predicted - self.common, 0)

    def missed(self, thresholds: Mapping[str, float]) -> Floats:
        """Of each task with submitted labels: the share of them that is not drawn."""
        least = np.array([thresholds.get(label, 0.0) for label in self.labels])
        present = self.submitted > 0
        lost = present & ~((self.predicted > 0) & (self.scores >= least))
        counts = present.sum(axis=1)
        return np.asarray(lost.sum(axis=1)[counts > 0] / counts[counts > 0], np.float64)


def miou(common: Floats, union: Floats) -> float | None:
    """Mean over labels of the summed intersections over the summed unions, [T, L]; None where there are no labels.

    Labels that were neither drawn nor submitted are left out.
    """
    value = float(_mious(np.ones((1, len(common))), common, union)[0])
    return None if np.isnan(value) else value


def better(reached: float | None, value: float | None) -> bool:
    """Whether a figure is higher than another; no if one of them is not known."""
    return reached is not None and value is not None and reached > value


def thresholds_at(
    presence: Presence, cut: float, labels: Sequence[str], floors: Mapping[str, float]
) -> dict[str, float]:
    """Each label's threshold for a probability, rounded to what is written; never below the score it was drawn from."""
    return {label: round(max(floors.get(label, 0.0), presence.threshold(label, cut)), 3) for label in labels}


def best_thresholds(table: Table, floors: Mapping[str, float]) -> dict[str, float]:
    """The thresholds with the best mIoU on these tasks; {} where scores do not tell present from absent.

    floors: score by label from which regions were drawn; what lies below was never seen and is not judged.
    """
    presence = fit_presence(table.scores, table.submitted > 0, table.labels)
    if presence is None or presence.slope <= 0:
        return {}
    candidates = [thresholds_at(presence, cut, table.seen, floors) for cut in CUTS.tolist()]
    measured = [(miou(*table.areas(thresholds)), thresholds) for thresholds in candidates]
    known = [(value, thresholds) for value, thresholds in measured if value is not None]
    return max(known, key=lambda pair: pair[0], default=(0.0, {}))[1]


def conformal_cut(presence: Presence, table: Table, most: float) -> float | None:
    """The highest probability to keep regions from such that at most a share `most` of a task's labels is missed.

    Conformal risk control (Angelopoulos et al. 2022): in the mean over tasks like these n, which must not be the ones
    that `presence` was fitted to, the guarantee holds if n / (n + 1) * risk + 1 / (n + 1) <= most. None if not even
    keeping everything can promise that.
    """
    shares = [
        [presence.probability(table.labels[i], table.scores[row, i]) for i in np.flatnonzero(present)]
        for row, present in enumerate(table.submitted > 0)
        if present.any()
    ]
    n = len(shares)
    best = None
    for cut in CUTS.tolist() if n else ():
        # A score of 0 is never drawn, so that it is missed at any cut.
        risk = sum(float(np.mean([p < cut or p == 0 for p in share])) for share in shares) / n
        if n / (n + 1) * risk + 1 / (n + 1) <= most:
            best = cut
    return best


def samples_of(corrections: Sequence[Correction], version: str) -> list[Sample]:
    """Samples of corrections, oldest first, of one model version: each task's last one, the newest `NEWEST_TASKS`.

    Those that were not compared are left out. Another version has other scores: one more label, and a softmax is
    another.
    """
    last = {one.task: one for one in compared(corrections) if one.version == version}
    return [sample for one in list(last.values())[-NEWEST_TASKS:] for sample in _samples_of(one)]


def _samples_of(correction: Correction) -> Iterator[Sample]:
    changes = {change.label: change for change in correction.changes}
    for label in dict.fromkeys([*correction.scores, *changes]):
        score, change = correction.scores.get(label, 0.0), changes.get(label)
        areas = (change.predicted, change.submitted, change.common) if change else (0, 0, 0)
        yield Sample(correction.task, label, score, *areas)


def halves(tasks: Sequence[int], seed: int) -> tuple[list[int], list[int]]:
    """Split tasks at random: those that choose, and those that judge."""
    order = np.random.default_rng(seed).permutation(sorted(tasks)).tolist()
    return order[: len(order) // 2], order[len(order) // 2 :]


def judged(before: Table, after: Table, thresholds: Mapping[str, float], seed: int) -> Outcome:
    """How `after` with thresholds does beside `before` without, on the same tasks."""
    old, new = before.areas({}), after.areas(thresholds)
    draws = np.random.default_rng(seed).multinomial(
        len(before.tasks), np.full(len(before.tasks), 1 / len(before.tasks)), RESAMPLES
    )
    gains = _mious(draws, *new) - _mious(draws, *old)
    known = gains[~np.isnan(gains)]
    sure = float((known > 0).mean()) if len(known) else None
    shares = [table.missed(least) for table, least in ((before, {}), (after, thresholds))]
    missed = [float(share.mean()) if len(share) else None for share in shares]
    return Outcome(len(before.tasks), miou(*old), miou(*new), sure, *missed)


def decide(proposal: Proposal) -> Proposal:
    """Accept a proposal if it is better on the held-out tasks, and say why or why not."""
    found = proposal.held_out
    if found is None:
        return proposal
    figures = f"mIoU {shown(found.before)} -> {shown(found.after)} on {found.tasks} held-out tasks"
    if found.gain is None or found.sure is None:
        return replace(proposal, accepted=False, reason=f"Nothing to measure: {figures}. Nothing is changed.")
    if found.gain < LEAST_GAIN:
        return replace(proposal, accepted=False, reason=f"No gain: {figures}. Nothing is changed.")
    if found.sure < SURE:
        reason = f"Not sure enough: {figures}, better in only {found.sure:.0%} of their resamples. Nothing is changed."
        return replace(proposal, accepted=False, reason=reason)
    return replace(proposal, accepted=True, reason=f"{figures}, better in {found.sure:.0%} of their resamples.")


def shown(figure: float | None) -> str:
    """A figure with three digits, `none` where nothing was measured."""
    return "none" if figure is None else f"{figure:.3f}"


def propose(
    samples: Sequence[Sample], floors: Mapping[str, float], seed: int = 0, miss_at_most: float | None = None
) -> Proposal:
    """Thresholds for what was drawn, chosen by one half of the tasks and judged by the other.

    floors: score by label from which regions are drawn now. miss_at_most: a share of each task's labels, 0..1; the
    thresholds are then the highest that keep it, whatever that does to the mIoU, and may lie below the floors.
    """
    table = Table.of(samples)
    refusal = too_few(len(table.tasks))
    if refusal:
        return refusal
    chose, judge = (table.only(tasks) for tasks in halves(table.tasks, seed))
    if miss_at_most is not None:
        return _missing_at_most(chose, judge, miss_at_most, seed)
    thresholds = best_thresholds(chose, floors)
    if not thresholds:
        return Proposal(False, "Scores do not tell present labels from absent ones. Nothing is changed.", {})
    return decide(Proposal(False, "", thresholds, len(chose.tasks), judged(judge, judge, thresholds, seed)))


def too_few(tasks: int) -> Proposal | None:
    """The refusal to calibrate on so few tasks, None if they are enough."""
    if tasks >= LEAST_TASKS:
        return None
    reason = f"Too few: {tasks} corrected tasks, {LEAST_TASKS} are needed. Nothing is changed."
    return Proposal(False, reason, {})


def _missing_at_most(chose: Table, judge: Table, most: float, seed: int) -> Proposal:
    presence = fit_presence(chose.scores, chose.submitted > 0, chose.labels)
    cut = conformal_cut(presence, judge, most) if presence is not None and presence.slope > 0 else None
    if presence is None or cut is None:
        n = int((judge.submitted > 0).any(axis=1).sum())
        needed = int(np.ceil(1 / most)) - 1 if most > 0 else 0
        few = f"that takes {needed} held-out tasks with labels, there are {n}" if n < needed or not most else ""
        why = few or "even with everything kept, too many labels are missed"
        return Proposal(False, f"Missing at most {most:.0%} cannot be promised: {why}. Nothing is changed.", {})
    thresholds = thresholds_at(presence, cut, chose.seen, {})
    found = judged(judge, judge, thresholds, seed)
    reason = (
        f"Misses at most {most:.0%} of a task's labels in the mean (conformal risk control over {found.tasks} tasks); "
        f"mIoU {shown(found.before)} -> {shown(found.after)}, as far as masks were drawn."
    )
    return Proposal(True, reason, thresholds, len(chose.tasks), found)


def _mious(draws: NDArray[np.floating] | NDArray[np.integer], common: Floats, union: Floats) -> Floats:
    """The mIoU [R] of tasks drawn so many times each, draws [R, T]; nan where there is nothing at all."""
    commons, unions = draws @ common, draws @ union
    there = unions > 0
    ious = np.divide(commons, unions, out=np.zeros_like(commons, dtype=float), where=there)
    counts = there.sum(axis=1)
    means: Floats = np.divide(ious.sum(axis=1), counts, out=np.full(len(draws), np.nan), where=counts > 0)
    return means
