"""What became of a project's tasks in one model version, counted from their tickets (kept for CAR_RESULT_DAYS)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from backend import store
from backend.queue.job import State
from backend.queue.jobs import TOGETHER, Jobs
from backend.store import text

_FIELDS = ("state", "version", "trial", "scores", "error", "started", "finished")


@dataclass(frozen=True)
class LabelTally:
    """In how many tasks a label was found, and the mean of its best score in each; None where it was never found."""

    label: str
    tasks: int
    mean_score: float | None


@dataclass(frozen=True)
class Tally:
    """Finished tasks, how many of them are empty, each label, why others failed, and the mean seconds of a task."""

    done: int
    empty: int
    labels: tuple[LabelTally, ...]
    failed: Counter[str] = field(default_factory=Counter)
    seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**vars(self), "labels": [vars(label) for label in self.labels], "failed": dict(self.failed)}


@dataclass(frozen=True)
class Outcome:
    """What became of one task: its labels with their scores, or (`scores` is None) why there is nothing."""

    scores: Mapping[str, float] | None
    error: str = ""
    seconds: float | None = None


def count(outcomes: Iterable[Outcome], labels: Sequence[str]) -> Tally:
    """Count; `labels` are those of the config as Label Studio stores them, in the order of the answer."""
    scores: dict[str, list[float]] = {label: [] for label in labels}
    done = empty = 0
    failed: Counter[str] = Counter()
    seconds = []
    for outcome in outcomes:
        if outcome.scores is None:
            failed[outcome.error] += 1
            continue
        done, empty = done + 1, empty + (not outcome.scores)
        for label, score in outcome.scores.items():
            scores.setdefault(label, []).append(score)
        if outcome.seconds is not None:
            seconds.append(outcome.seconds)
    rows = tuple(LabelTally(label, len(each), fmean(each) if each else None) for label, each in scores.items())
    return Tally(done, empty, rows, failed, fmean(seconds) if seconds else None)


def tally(jobs: Jobs, project: int, version: str, labels: Sequence[str]) -> Tally:
    """Count a project's tasks that are finished or given up in this version; trials are left out."""
    return count(_outcomes(jobs, project, version), labels)


def _outcomes(jobs: Jobs, project: int, version: str) -> Iterator[Outcome]:
    for ticket in _tickets(jobs, project):
        if ticket.get("version") != version or "trial" in ticket:
            continue
        if ticket["state"] == State.FAILED:
            yield Outcome(None, ticket.get("error", ""))
        elif ticket["state"] == State.DONE:
            yield Outcome(json.loads(ticket.get("scores", "{}")), seconds=seconds_of(ticket))


def seconds_of(ticket: Mapping[str, str]) -> float | None:
    """How long fetching and segmenting took, by a ticket's fields; None when they do not say."""
    if "started" not in ticket or "finished" not in ticket:
        return None
    return float(ticket["finished"]) - float(ticket["started"])


def _tickets(jobs: Jobs, project: int) -> Iterator[dict[str, str]]:
    """The fields of all tickets of a project; a ticket that vanishes meanwhile is left out."""
    keys = list(jobs.redis.scan_iter(match=store.ticket_key(f"p{project}-*"), count=1000))
    for at in range(0, len(keys), TOGETHER):
        with jobs.redis.pipeline(transaction=False) as pipe:
            for key in keys[at : at + TOGETHER]:
                pipe.hmget(key, *_FIELDS)
            for values in pipe.execute():
                ticket = {name: text(value) for name, value in zip(_FIELDS, values, strict=True) if value is not None}
                if "state" in ticket:
                    yield ticket


def as_text(found: Tally) -> str:
    """A table for people."""
    wide = max([len("nothing"), *(len(row.label) for row in found.labels)])
    lines = [f"{'label':{wide}}  found in         mean score"]
    for row in found.labels:
        score = "" if row.mean_score is None else f"{row.mean_score:10.2f}"
        lines.append(f"{row.label:{wide}}  {_share(row.tasks, found.done)}  {score}".rstrip())
    return "\n".join([*lines, f"{'nothing':{wide}}  {_share(found.empty, found.done)}"])


def _share(count: int, of: int) -> str:
    return f"{count:6d} ({100 * count / of:5.1f} %)" if of else f"{count:6d} (   none)"
