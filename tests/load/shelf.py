"""What the stub of Label Studio keeps: tasks and their predictions, counted; and how badly it treats requests."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Faults:
    """How badly requests fare: `latency` in seconds (spread by a half), the others are shares of 0..1."""

    latency: float = 0.0
    errors: float = 0.0
    resets: float = 0.0


@dataclass
class Task:
    """A task, when it was created, its predictions (id -> prediction) and annotations."""

    created: float
    predictions: dict[int, dict[str, Any]] = field(default_factory=dict)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    first_stored: float | None = None


def matches(task: Task, conditions: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a task passes those filters of the Data Manager that the backend uses (all but the one by id)."""
    versions = [str(one.get("model_version")) for one in task.predictions.values()]
    for condition in conditions:
        operator, value = condition["operator"], condition["value"]
        if condition["filter"] == "filter:tasks:predictions_model_versions":
            held = any(text in version for text in value for version in versions)
            if held != (operator == "contains"):
                return False
        elif condition["filter"] == "filter:tasks:total_annotations" and len(task.annotations) != value:
            return False
    return True


class Refused(Exception):
    """Label Studio's answer to what it does not accept: a status and words."""

    def __init__(self, status: int, detail: str):
        super().__init__(detail)
        self.status = status


class Shelf:
    """Tasks and their predictions. Thread-safe; counts everything."""

    def __init__(self) -> None:
        self.tasks: dict[int, Task] = {}
        self.counts: Counter[str] = Counter()
        self._owner: dict[int, int] = {}
        self._next = 1
        self._lock = threading.Lock()

    def add_tasks(self, count: int) -> list[int]:
        with self._lock:
            first = max(self.tasks, default=0) + 1
            ids = list(range(first, first + count))
            self.tasks.update((number, Task(time.time())) for number in ids)
            return ids

    def delete_task(self, number: int) -> None:
        with self._lock:
            self.tasks.pop(number, None)

    def listed(self, asked: Mapping[str, Any], size: int, page: int) -> tuple[int, list[tuple[int, Task]]]:
        """(how many tasks match a query of the Data Manager, one page of them by rising id)."""
        conditions = asked["filters"]["items"]
        after = max((one["value"] for one in conditions if one["filter"] == "filter:tasks:id"), default=0)
        with self._lock:
            found = [(n, task) for n, task in sorted(self.tasks.items()) if n > after and matches(task, conditions)]
        return len(found), found[(page - 1) * size : page * size]

    def annotate(self, number: int, annotation: dict[str, Any]) -> None:
        with self._lock:
            self.tasks[number].annotations.append(annotation)

    def predictions(self, number: int) -> list[dict[str, Any]]:
        with self._lock:
            if number not in self.tasks:
                raise Refused(400, "Select a valid choice. That choice is not one of the available choices.")
            return list(self.tasks[number].predictions.values())

    def store(self, predictions: Sequence[Mapping[str, Any]], how: str) -> list[int]:
        """Keep all or, when one task is unknown, none of them; `how` they came is counted."""
        with self._lock:
            if any(prediction.get("task") not in self.tasks for prediction in predictions):
                raise Refused(400, "Some of the tasks do not exist.")
            now, ids = time.time(), []
            for prediction in predictions:
                task = self.tasks[prediction["task"]]
                task.predictions[self._next] = {"id": self._next, **prediction}
                task.first_stored = task.first_stored or now
                self._owner[self._next] = prediction["task"]
                ids.append(self._next)
                self._next += 1
            self.counts[how] += len(ids)
            return ids

    def delete(self, prediction_id: int) -> None:
        with self._lock:
            task = self.tasks.get(self._owner.pop(prediction_id, 0))
            if task is None or task.predictions.pop(prediction_id, None) is None:
                raise Refused(404, "Not found.")
            self.counts["deleted"] += 1

    def missing(self, version: str | None = None) -> list[int]:
        """Tasks without a prediction (of this version)."""
        with self._lock:
            return [number for number, task in self.tasks.items() if version not in _versions(task, version)]

    def report(self) -> dict[str, Any]:
        with self._lock:
            stored = Counter(version for task in self.tasks.values() for version in _versions(task).elements())
            doubled = [n for n, task in self.tasks.items() if max(_versions(task).values(), default=0) > 1]
            missing = [number for number, task in self.tasks.items() if not task.predictions]
            seconds = [t.first_stored - t.created for t in self.tasks.values() if t.first_stored is not None]
            return {
                "tasks": len(self.tasks),
                "delivered": len(self.tasks) - len(missing),
                "missing": missing,
                "doubled": doubled,
                "stored": dict(stored),
                "counts": dict(self.counts),
                "slowest": max(seconds, default=0.0),
                "median": statistics.median(seconds) if seconds else 0.0,
            }


def _versions(task: Task, wanted: str | None = "") -> Counter[str | None]:
    """Versions of a task's predictions; with `wanted` None any prediction counts as that."""
    if wanted is None:
        return Counter({None: len(task.predictions)} if task.predictions else {})
    return Counter(prediction.get("model_version") for prediction in task.predictions.values())
