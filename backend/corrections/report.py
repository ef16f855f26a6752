"""What the corrections of a project amount to: figures with their uncertainty, for the page, the file and programs.

Shares have Wilson's interval; means are over annotations, and their interval is the percentile bootstrap's, which asks
nothing about how IoU is distributed. Both cover 95 %. Annotations that could not be compared are counted, and left out
of every figure; a figure of nothing is None.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import fmean, median
from typing import Any

import numpy as np

from backend.corrections.records import Change, Correction, Kind, compared

RESAMPLES = 500
FEW = 5
Z = 1.959964
"""Standard normal quantile of 97.5 %."""
WORST = 12
"""Annotations that are shown as the worst, and as not compared."""
DAYS = 60
"""Days that a trend shows at most."""


@dataclass(frozen=True)
class Estimate:
    """A figure between 0 and 1 with the ends of its 95 % interval, from `count` observations; None without any."""

    value: float | None
    low: float | None
    high: float | None
    count: int


NONE = Estimate(None, None, None, 0)


@dataclass(frozen=True)
class LabelFigures:
    """One label: how often it was predicted or submitted, what was done to it, and how far masks agree."""

    label: str
    kinds: dict[str, int]
    iou: Estimate
    boundary_f: float


@dataclass(frozen=True)
class Day:
    """The annotations submitted on one day (UTC): how many, the share accepted as they were, mean IoU, seconds each.

    iou: None where all of them are empty, and so were their predictions.
    """

    day: str
    count: int
    accepted: float
    iou: float | None
    seconds: float | None


@dataclass(frozen=True)
class Report:
    """A project's corrections: `annotations` of `tasks` that were compared, and how many could not be.

    worst: those with the least mean IoU. seconds: the median `lead_time`. problems: the newest that were not compared.
    """

    project: int
    annotations: int
    tasks: int
    not_compared: int
    accepted: Estimate
    iou: Estimate
    seconds: float | None
    labels: tuple[LabelFigures, ...]
    days: tuple[Day, ...]
    worst: tuple[Correction, ...]
    problems: tuple[Correction, ...]


def report(project: int, corrections: Sequence[Correction]) -> Report:
    """Sum up the corrections of a project, any number of them."""
    known = compared(corrections)
    changes: dict[str, list[Change]] = defaultdict(list)
    for change in (change for one in known for change in one.changes):
        changes[change.label].append(change)
    measured = [(one.iou, one) for one in known if one.iou is not None]
    changed = sorted((pair for pair in measured if not pair[1].accepted), key=lambda pair: pair[0])
    return Report(
        project=project,
        annotations=len(known),
        tasks=len({one.task for one in known}),
        not_compared=len(corrections) - len(known),
        accepted=wilson(sum(one.accepted is True for one in known), len(known)),
        iou=bootstrap([iou for iou, _ in measured]),
        seconds=_median(one.seconds for one in known),
        labels=tuple(_figures(label, found) for label, found in sorted(changes.items())),
        days=_days(known)[-DAYS:],
        worst=tuple(one for _, one in changed[:WORST]),
        problems=tuple([one for one in reversed(corrections) if one.not_compared][:WORST]),
    )


def wilson(hits: int, count: int) -> Estimate:
    """A share with Wilson's score interval."""
    if not count:
        return NONE
    share, weight = hits / count, Z**2 / count
    centre = (share + weight / 2) / (1 + weight)
    reach = Z / (1 + weight) * math.sqrt(share * (1 - share) / count + weight / (4 * count))
    return Estimate(share, max(0.0, centre - reach), min(1.0, centre + reach), count)


def bootstrap(values: Sequence[float]) -> Estimate:
    """A mean with the percentile bootstrap's interval; always the same for the same values.

    Fewer than `FEW` values say too little about others: the interval is then all that is possible, 0 to 1.
    """
    if not values:
        return NONE
    if len(values) < FEW:
        return Estimate(fmean(values), 0.0, 1.0, len(values))
    found = np.array(values)
    drawn = np.random.default_rng(0).integers(0, found.size, (RESAMPLES, found.size), np.int32)
    means = found[drawn].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return Estimate(float(found.mean()), float(low), float(high), len(values))


def as_json(found: Report) -> dict[str, Any]:
    """Plain JSON values, without outlines."""
    data = asdict(found)
    data["worst"] = [
        {"task": one.task, "annotation": one.annotation, "iou": one.iou, "labels": _kinds_of(one)}
        for one in found.worst
    ]
    data["problems"] = [
        {"task": one.task, "annotation": one.annotation, "reason": one.not_compared} for one in found.problems
    ]
    return data


def as_csv(corrections: Iterable[Correction]) -> str:
    """One line for each label of each annotation, and one with the reason for each that was not compared."""
    text = io.StringIO()
    columns = (
        "task annotation version submitted seconds label what iou boundary_f predicted submitted_pixels score reason"
    )
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(columns.split())
    for one in corrections:
        moment = datetime.fromtimestamp(one.submitted, UTC).isoformat(timespec="seconds")
        seconds = "" if one.seconds is None else f"{one.seconds:.1f}"
        known = (one.task, one.annotation, one.version, moment, seconds)
        if one.not_compared:
            rows.writerow((*known, "", "not compared", *[""] * 5, one.not_compared))
        for change in one.changes:
            score = one.scores.get(change.label)
            figures = (f"{change.iou:.4f}", f"{change.boundary_f:.4f}", change.predicted, change.submitted)
            shown = "" if score is None else f"{score:.3f}"
            rows.writerow((*known, change.label, change.kind, *figures, shown, ""))
    return text.getvalue()


def as_text(found: Report) -> str:
    """For people, in a terminal."""
    if not found.annotations and not found.not_compared:
        return (
            f"No corrections of project {found.project} are known. They come as annotations are submitted while a "
            "courier runs; `--rebuild` reads those that Label Studio has."
        )
    lines = [
        f"{found.annotations} annotations of {found.tasks} tasks",
        f"accepted as they were  {_percent(found.accepted)}",
        f"mean IoU               {_shown(found.iou)}",
    ]
    if found.not_compared:
        lines.insert(1, f"not compared           {found.not_compared} (left out of all figures)")
    if found.seconds is not None:
        lines.append(f"time to submit         {found.seconds:.0f} s (median)")
    if not found.labels:
        return "\n".join([*lines, *_reasons(found)])
    width = max(len("label"), *(len(row.label) for row in found.labels))
    lines.append(f"\n{'label':<{width}}  IoU (95 % interval)   edges   " + "  ".join(kind.value for kind in Kind))
    for row in found.labels:
        counts = "  ".join(f"{row.kinds[kind]:>{len(kind.value)}}" for kind in Kind)
        lines.append(f"{row.label:<{width}}  {_shown(row.iou):<20}  {row.boundary_f:.3f}   {counts}")
    return "\n".join([*lines, *_reasons(found)])


def _reasons(found: Report) -> list[str]:
    """Why annotations were not compared, the newest ones."""
    if not found.problems:
        return []
    lines = [f"task {one.task}, annotation {one.annotation}: {one.not_compared}" for one in found.problems]
    return ["\nNot compared, newest first:", *lines]


def _figures(label: str, changes: Sequence[Change]) -> LabelFigures:
    counts = Counter(change.kind for change in changes)
    kinds = {kind.value: counts[kind] for kind in Kind}
    return LabelFigures(
        label, kinds, bootstrap([change.iou for change in changes]), fmean(change.boundary_f for change in changes)
    )


def _days(corrections: Sequence[Correction]) -> tuple[Day, ...]:
    by_day = _grouped(corrections, lambda one: datetime.fromtimestamp(one.submitted, UTC).date().isoformat())
    return tuple(_day(day, found) for day, found in sorted(by_day.items()))


def _day(day: str, found: Sequence[Correction]) -> Day:
    ious = [one.iou for one in found if one.iou is not None]
    accepted = fmean(one.accepted is True for one in found)
    return Day(day, len(found), accepted, fmean(ious) if ious else None, _median(one.seconds for one in found))


def _grouped(corrections: Sequence[Correction], key: Callable[[Correction], str]) -> dict[str, list[Correction]]:
    grouped: dict[str, list[Correction]] = defaultdict(list)
    for one in corrections:
        grouped[key(one)].append(one)
    return grouped


def _kinds_of(correction: Correction) -> dict[str, str]:
    return {change.label: change.kind.value for change in correction.changes}


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _shown(estimate: Estimate) -> str:
    if estimate.value is None:
        return "none"
    return f"{estimate.value:.3f} ({estimate.low:.3f}-{estimate.high:.3f})"


def _percent(estimate: Estimate) -> str:
    if estimate.value is None:
        return "none"
    return f"{estimate.value:.0%} ({estimate.low:.0%}-{estimate.high:.0%})"
