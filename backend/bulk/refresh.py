"""Predictions of ours that make room: those of other images, and old ones where the new one is stored already.

Never touched: annotations, predictions of other models, and a prediction that somebody's annotation began with (what
people changed is told by comparing both).
"""

from __future__ import annotations

from collections.abc import Iterator

from backend.provenance import ours
from backend.reconcile import Reconciler, Served, read_tasks, remove
from backend.studio.client import Studio, TaskFilter


def check_images(reconciler: Reconciler, project: Served) -> Iterator[int]:
    """Delete predictions of images that their task does not show (any more); for each page how many tasks were read.

    Tasks whose prediction is not known to be of their present images are asked for. Raises StudioError.
    """
    after = 0
    while page := reconciler.studio.tasks_beyond(project.project, after, TaskFilter(holding="car-")):
        reconciler.check(project, page)
        after = int(page[-1]["id"])
        yield len(page)


def count_suspects(reconciler: Reconciler, project: Served) -> int:
    """How many tasks hold predictions of ours of which it is not known that they are of their present images."""
    tasks = reconciler.studio.tasks(project.project, which=TaskFilter(holding=project.version))
    return len(reconciler.suspects(project, list(tasks)))


def replace_old(studio: Studio, project: int, version: str) -> Iterator[int]:
    """For each task with predictions of ours: delete those of other versions; how many these were.

    Stopped in the middle it may be called again. Raises StudioError and StudioUnavailable.
    """
    for task in studio.tasks(project, which=TaskFilter(holding="car-")):
        versions = str(task.get("predictions_model_versions", "")).replace(" ", "").split(",")
        yield _replace(studio, project, int(task["id"]), version) if set(versions) != {version} else 0


def _replace(studio: Studio, project: int, number: int, version: str) -> int:
    task = (read_tasks(studio, project, [number], whole=True) or {}).get(number, {})
    stored = ours(task)
    if all(one["model_version"] != version for one in stored):
        return 0
    return remove(studio, task, [one for one in stored if one["model_version"] != version])
