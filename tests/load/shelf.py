"""What the stub of Label Studio keeps: projects, tasks and predictions, counted; and how badly it treats requests."""

from __future__ import annotations

import statistics
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.load.image_codes import CODES
from tests.load.queries import Refused, select
from tests.load.records import TIME, Project, Task, now, upload

IN_BULK = "pushed in bulk"
"""How predictions come that leave a task's `updated_at` as it was."""


@dataclass(frozen=True)
class Faults:
    """How badly requests fare: `latency` in seconds (spread by a half), the others are shares of 0..1."""

    latency: float = 0.0
    errors: float = 0.0
    resets: float = 0.0


class Shelf:
    """Projects, their tasks and predictions. Thread-safe; counts everything.

    As in Label Studio on SQLite, a new task or project gets the highest id that is in use, plus one: what is deleted
    from the end makes room for other things with the same ids.
    """

    def __init__(self, codes: int = CODES) -> None:
        """`codes` is how many different images there are."""
        self.codes = codes
        self.projects: dict[int, Project] = {}
        self.tasks: dict[int, Task] = {}
        self.counts: Counter[str] = Counter()
        self._owner: dict[int, int] = {}
        self._next = 1
        self._uploads = 0
        self._lock = threading.RLock()

    # Projects

    def add_project(self, title: str, config: str) -> int:
        with self._lock:
            number = max(self.projects, default=0) + 1
            self.projects[number] = Project(number, title, config)
            return number

    def project(self, number: int) -> Project:
        """Raises Refused (404) when there is none."""
        project = self.projects.get(number)
        if project is None:
            raise Refused(404, "No Project matches the given query.")
        return project

    def project_row(self, number: int) -> dict[str, Any]:
        return self.project(number).row(len(self.tasks_of(number)))

    def delete_project(self, number: int) -> None:
        """Delete a project with its tasks."""
        with self._lock:
            self.project(number)
            del self.projects[number]
            self.tasks = {n: task for n, task in self.tasks.items() if task.project != number}

    # Tasks

    def add_tasks(self, count: int, project: int = 1) -> list[int]:
        """Create tasks, each with an image of its own."""
        with self._lock:
            self.project(project)
            first = max(self.tasks, default=0) + 1
            for number in range(first, first + count):
                self.tasks[number] = Task(number, project, {"image": self._upload(project)})
            return list(range(first, first + count))

    def _upload(self, project: int) -> str:
        self._uploads += 1
        return upload(project, self._uploads)

    def task(self, number: int) -> Task:
        """Raises Refused (404) when there is none."""
        task = self.tasks.get(number)
        if task is None:
            raise Refused(404, "No Task matches the given query.")
        return task

    def tasks_of(self, project: int) -> list[Task]:
        with self._lock:
            return [task for task in self.tasks.values() if task.project == project]

    def delete_task(self, number: int) -> None:
        with self._lock:
            self.tasks.pop(number, None)

    def replace_newest(self, count: int, project: int = 1) -> list[int]:
        """Delete a project's newest tasks and create as many in one step; the new ones get the ids of the old."""
        with self._lock:
            newest = sorted((task.number for task in self.tasks_of(project)), reverse=True)[:count]
            for number in newest:
                self.delete_task(number)
            return self.add_tasks(len(newest), project)

    def change_data(self, number: int, data: Mapping[str, Any]) -> None:
        with self._lock:
            task = self.task(number)
            task.data = dict(data)
            task.touch()

    def change_image(self, number: int) -> None:
        """Give a task another image, as a PATCH of its data does."""
        with self._lock:
            self.change_data(number, {"image": self._upload(self.task(number).project)})

    def annotate(self, number: int, annotation: dict[str, Any]) -> None:
        with self._lock:
            self.tasks[number].annotations.append(annotation)
            self.tasks[number].touch()

    def listed(self, project: int, query: Mapping[str, Any], size: int, page: int) -> tuple[int, list[Task]]:
        """(how many tasks match a query of the Data Manager, one page of them by rising id)."""
        self.project(project)
        with self._lock:
            found = select(self.tasks_of(project), query)
        return len(found), found[(page - 1) * size : page * size]

    # Predictions

    def predictions(self, number: int) -> list[dict[str, Any]]:
        with self._lock:
            if number not in self.tasks:
                raise Refused(400, "Select a valid choice. That choice is not one of the available choices.")
            return list(self.tasks[number].predictions.values())

    def store(self, predictions: Sequence[Mapping[str, Any]], how: str, project: int | None = None) -> list[int]:
        """Keep all or, when one task is unknown (in the project), none of them; `how` they came is counted."""
        with self._lock:
            owners = [self.tasks.get(prediction.get("task", 0)) for prediction in predictions]
            tasks = [task for task in owners if task is not None and project in (None, task.project)]
            if len(tasks) < len(owners):
                raise Refused(400, "Some of the tasks do not exist.")
            ids = [self._keep(task, one, how) for task, one in zip(tasks, predictions, strict=True)]
            self.counts[how] += len(ids)
            return ids

    def _keep(self, task: Task, prediction: Mapping[str, Any], how: str) -> int:
        number, stored = self._next, now()
        row = {"id": number, **prediction, "project": task.project, "created_at": stored.strftime(TIME)}
        task.predictions[number] = row
        task.first_stored = task.first_stored or stored
        if how != IN_BULK:
            task.touch()
        self._owner[number] = task.number
        self._next += 1
        return number

    def delete(self, prediction_id: int) -> None:
        with self._lock:
            task = self.tasks.get(self._owner.pop(prediction_id, 0))
            if task is None or task.predictions.pop(prediction_id, None) is None:
                raise Refused(404, "Not found.")
            task.touch()
            self.counts["deleted"] += 1

    # What came of it

    def report(self) -> dict[str, Any]:
        """Counts of all projects; `settled` tasks hold one prediction, made from their present image."""
        with self._lock:
            tasks = list(self.tasks.values())
            wrong = {task.number: task.wrong(self.codes) for task in tasks}
            doubled = [task.number for task in tasks if max(task.versions().values(), default=0) > 1]
            missing = [task.number for task in tasks if not task.predictions]
            settled = sum(len(task.predictions) == 1 and not wrong[task.number] for task in tasks)
            stored = Counter(version for task in tasks for version in task.versions().elements())
            seconds = [(t.first_stored - t.created).total_seconds() for t in tasks if t.first_stored is not None]
            return {
                "tasks": len(tasks),
                "delivered": len(tasks) - len(missing),
                "settled": settled,
                "missing": missing,
                "doubled": doubled,
                "wrong": [number for number, count in wrong.items() if count],
                "stored": dict(stored),
                "counts": dict(self.counts),
                "slowest": max(seconds, default=0.0),
                "median": statistics.median(seconds) if seconds else 0.0,
            }
