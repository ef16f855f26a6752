"""Which images a stored prediction was made from.

Label Studio on SQLite gives the ids of deleted tasks out again, and the data of a task may be replaced. So task id and
model version do not tell whether a prediction belongs to what its task shows now. Two things do:

* The ids of its regions: the first eight digits stand for the address of the image (`backend.masks.results`). They are
  kept in Label Studio with the prediction.
* `Holdings`, in Redis: the fingerprint of the job that Label Studio's prediction came from. Needed for predictions
  without regions, and for those of releases that gave other ids.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from redis import Redis

from backend import store
from backend.corrections.records import is_ours
from backend.labeling.config import LabelingConfig, address_digest
from backend.queue.job import Job, job_of
from backend.settings import Settings
from backend.store import text

_REGION_ID = re.compile(r"([0-9a-f]{8})[0-9a-f]{8}")

Prediction = Mapping[str, Any]
"""A prediction as Label Studio returns it: `id`, `result`, `model_version`, `created_at`, ..."""


class Origin(StrEnum):
    """Whether a stored prediction was made from the images that its task shows now."""

    PRESENT = "present"
    OTHER = "other"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Shown:
    """What a task shows now: the job for its present data, that data, and the fingerprint in `Holdings`, if any."""

    job: Job
    data: Any
    held: str | None = None

    def origin(self, prediction: Prediction) -> Origin:
        """Judge one stored prediction of this task by its region ids, else by what is recorded of it."""
        is_same_version = prediction.get("model_version") == self.job.version
        images = images_of(prediction)
        if images:
            fits = self._has_in_place(images) if is_same_version else self._has(images)
            return Origin.PRESENT if fits else Origin.OTHER
        if is_same_version and self.held is not None:
            return Origin.PRESENT if self.held == self.job.fingerprint else Origin.OTHER
        return Origin.UNKNOWN

    def _has_in_place(self, images: set[tuple[str, int, str]]) -> bool:
        return images <= {(one.tag, one.page or 0, one.digest) for one in self.job.pictures}

    def _has(self, images: set[tuple[str, int, str]]) -> bool:
        """Whether the images are in the task's data at all: another labeling config may have named them otherwise."""
        known = {address_digest(value.strip()) for value in _texts(self.data)}
        known |= {one.digest for one in self.job.pictures}
        return {digest for _, _, digest in images} <= known


def images_of(prediction: Prediction) -> set[tuple[str, int, str]]:
    """The (image tag, page, digest of the address) of a prediction's regions; empty when they do not tell."""
    found: set[tuple[str, int, str]] = set()
    for region in prediction.get("result") or ():
        match = _REGION_ID.fullmatch(str(region.get("id"))) if isinstance(region, Mapping) else None
        if match is None:
            return set()
        page = region.get("item_index")
        found.add((str(region.get("to_name")), page if isinstance(page, int) else 0, match[1]))
    return found


def same_regions(one: Prediction, other: Prediction) -> bool:
    """Whether two predictions draw the same, whatever the ids of their regions."""
    return _drawn(one) == _drawn(other)


def _drawn(prediction: Prediction) -> list[str]:
    names = ("from_name", "to_name", "type", "item_index", "value")
    regions = prediction.get("result") or ()
    return sorted(json.dumps([region.get(name) for name in names], sort_keys=True) for region in regions)


def fits(job: Job, task: Mapping[str, Any]) -> bool:
    """Whether a task, as Label Studio has it now, still is what a job was made from."""
    now = job_of(task, job.project, job.config, job.version, logging.DEBUG)
    return now is not None and now.fingerprint == job.fingerprint


def shows_still(task: Mapping[str, Any], project: int, config: LabelingConfig, fingerprint: str) -> bool:
    """Whether a task shows what something of this fingerprint was made from; "" counts as yes."""
    job = job_of(task, project, config, config.version(), logging.DEBUG)
    return job is not None and fingerprint in ("", job.fingerprint)


def begun_with(task: Mapping[str, Any]) -> set[object]:
    """Ids of the predictions that an annotation of the task began with: these are never deleted."""
    return {one.get("parent_prediction") for one in task.get("annotations") or ()} - {None}


def ours(task: Mapping[str, Any]) -> list[Prediction]:
    """The predictions of a task, read with all that hangs on it, that this backend made; by rising id."""
    found = [one for one in task.get("predictions") or () if is_ours(one.get("model_version"))]
    return sorted(found, key=lambda one: int(one["id"]))


class Holdings:
    """For each task, the fingerprint of the job whose prediction of a model version Label Studio holds.

    One hash per project and version; forgotten `CAR_CORRECTION_DAYS` after the last delivery.
    """

    def __init__(self, redis: Redis, settings: Settings):
        self.redis = redis
        self.keep_seconds = int(settings.car_correction_days * 86_400)

    def note(self, job: Job) -> None:
        """Label Studio holds the prediction of this job."""
        key = store.held_key(job.project, job.version)
        with self.redis.pipeline() as pipe:
            pipe.hset(key, str(job.task), job.fingerprint)
            pipe.expire(key, self.keep_seconds)
            pipe.execute()

    def of(self, project: int, version: str, tasks: Sequence[int]) -> dict[int, str]:
        """Task -> fingerprint, for those of which it is known."""
        if not tasks:
            return {}
        found = cast(
            list[bytes | None], self.redis.hmget(store.held_key(project, version), [str(task) for task in tasks])
        )
        return {task: text(value) for task, value in zip(tasks, found, strict=True) if value is not None}


def shown(
    tasks: Sequence[Mapping[str, Any]], project: int, config: LabelingConfig, version: str, holdings: Holdings
) -> Iterator[tuple[Mapping[str, Any], Shown]]:
    """Pair each task with what it shows now; a task without an image is left out."""
    held = holdings.of(project, version, [int(task["id"]) for task in tasks])
    for task in tasks:
        job = job_of(task, project, config, version, logging.DEBUG)
        if job is not None:
            yield task, Shown(job, task.get("data"), held.get(job.task))


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from _texts(value)
    elif isinstance(data, list):
        for value in data:
            yield from _texts(value)
