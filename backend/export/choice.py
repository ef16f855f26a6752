"""What of each task is exported, and which tasks of an interrupted export have changed since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from backend.export.formats import Record
from backend.export.names import stem
from backend.labeling.parsing import ConfigError, LabelingConfig, pictures

Task = Mapping[str, Any]
"""A task as Label Studio lists it: `id`, `data`, `updated_at`, where read whole also `annotations`, `predictions`."""


@dataclass(frozen=True)
class Plan:
    """What is exported: two runs with equal plans may share a folder.

    source: `annotations` or `predictions`. labels: as Label Studio stores them, in the order of the labeling config;
    where tasks bring labels along, those that are met come after them.
    version: of the predictions; "" for the newest that this backend made. tolerance: of outlines, in pixels.
    """

    project: int
    format: str
    source: str
    labels: tuple[str, ...]
    version: str = ""
    tolerance: float = 0.5
    images: bool = False

    @property
    def has_predictions(self) -> bool:
        """Whether predictions are exported, not annotations."""
        return self.source == "predictions"


def chosen(task: Task, plan: Plan) -> Mapping[str, Any] | None:
    """The annotation or prediction to export of a task that was read whole; None when it has none of that kind.

    Of annotations the one marked as ground truth, else the one changed last; skipped ones do not count. Of predictions
    the newest of the plan's version, or of any that this backend made.
    """
    if plan.has_predictions:
        found = [one for one in task.get("predictions") or [] if _ours(str(one.get("model_version")), plan.version)]
        found.sort(key=lambda one: one.get("id", 0))
    else:
        found = [one for one in task.get("annotations") or [] if not one.get("was_cancelled")]
        found.sort(key=lambda one: (bool(one.get("ground_truth")), str(one.get("updated_at")), one.get("id", 0)))
    return found[-1] if found else None


def _ours(version: str, wanted: str) -> bool:
    return version == wanted if wanted else version.startswith("car-")


def as_of(task: Task, plan: Plan) -> list[object]:
    """JSON values that differ when a task has to be exported again; of predictions the task must be read whole.

    Label Studio 1.23 changes a task's `updated_at` with its data and with its annotations.
    """
    # It does not when predictions are imported in bulk; and SQLite gives the ids of deleted predictions out again.
    prediction = chosen(task, plan) if plan.has_predictions else None
    return [task.get("updated_at"), *([prediction["id"], prediction.get("created_at")] if prediction else [])]


def unchanged(
    lines: Mapping[int, Record], tasks: Iterable[Task], plan: Plan, config: LabelingConfig
) -> tuple[list[int], list[int]]:
    """Compare the log of an interrupted export with the tasks that there are now, by rising id up to its last one.

    Returns the tasks whose lines may stay, and those among them that are to be exported (again). Where a task's files
    depend on the tasks before it, nothing stays from the first change on: labels that tasks bring along are numbered,
    and images of equal names are named, in the order in which they are met.
    """
    last = max(lines, default=0)
    present: dict[int, list[object]] = {}
    names: list[str] = []
    for task in takewhile(lambda one: int(one["id"]) <= last, tasks):
        present[int(task["id"])] = as_of(task, plan)
        names += _stems(task, config)

    def stays(number: int) -> bool:
        return number in present and number in lines and lines[number].get("as_of") == present[number]

    numbers = sorted({*lines, *present})
    kept = [number for number in numbers if stays(number)]
    used = {record["stem"] for number in kept for record in lines[number]["images"]}
    if config.has_task_labels or len(set(names)) < len(names) or not used <= set(names):
        kept = list(takewhile(stays, numbers))
    last_kept = max(kept, default=0)
    return kept, sorted(number for number in set(present).difference(kept) if number < last_kept)


def _stems(task: Task, config: LabelingConfig) -> list[str]:
    try:
        return [stem(picture.address) for picture in pictures(config, task.get("data"))]
    except ConfigError:
        return []
