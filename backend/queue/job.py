"""What a job is: one image to segment for one task and one model version."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from rq.job import Job as RQJob

from backend.interactive.asks import Ask
from backend.labeling.parsing import ConfigError, LabelingConfig, Picture, for_task, pictures

log = logging.getLogger(__name__)

SEGMENT = "backend.worker.segment"
"""The one function that a queue may name; the web process only knows it by name."""


class SegmentJob(RQJob):  # type: ignore[misc]
    """An RQ job that can do nothing but segment, whatever somebody wrote into Redis.

    RQ calls any function that a job names, callbacks and web addresses included; ours are one function and none.
    """

    def perform(self) -> Any:
        """Run the job. Raises PermissionError for another function than ours."""
        if self.func_name != SEGMENT:
            raise PermissionError(f"jobs may only call {SEGMENT}, this one wants {self.func_name}")
        return super().perform()

    def execute_success_callback(self, *args: Any) -> None:
        """Call nothing."""

    def execute_failure_callback(self, *args: Any) -> None:
        """Call nothing."""

    def send_webhooks(self, *args: Any, **kwargs: Any) -> None:
        """Call nobody."""


class State(StrEnum):
    """What a ticket says, and what `Jobs.request` answers."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    """Too many jobs are open; nothing was recorded."""


@dataclass(frozen=True)
class Job:
    """What a worker needs to know of a task, as JSON in the queue. It carries no token and no weights' path.

    A `trial` is segmented like any other, but its prediction is only looked at, never delivered. So is what an
    annotator asks for in the open task (`ask`): the answer is for whoever waits, and for a short while.
    """

    project: int
    task: int
    pictures: tuple[Picture, ...]
    config: LabelingConfig
    version: str
    trial: bool = False
    ask: Ask | None = None

    def id_at(self, studio_url: str) -> str:
        """The job's id: the same for the same task, images and version of one Label Studio, however often asked."""
        key: list[Any] = [studio_url, self.project, self.task, self.version]
        key += [asdict(picture) for picture in self.pictures]
        key += [asdict(label) for image in self.config.images for label in image.task_labels]
        key += ["trial"] if self.trial else []
        key += [self.ask.to_json()] if self.ask else []
        return f"p{self.project}-t{self.task}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}"

    @property
    def fingerprint(self) -> str:
        """Eight hex digits that stand for the task's images, and for the labels that its data brings along.

        Within one model version it decides whether two jobs of a task are made from the same data.
        """
        shown: list[Any] = [[one.tag, one.page, one.address] for one in self.pictures]
        for image in self.config.images:
            shown += [
                [image.name, one.value, one.name, one.prompts, one.threshold, one.stuff] for one in image.task_labels
            ]
        return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:8]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is the inverse."""
        plain = {**vars(self), "pictures": [vars(one) for one in self.pictures], "config": _plain(self.config)}
        plain["ask"] = self.ask and self.ask.to_json()
        return {name: value for name, value in plain.items() if value or name not in ("trial", "ask")}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Job:
        """Inverse of `to_json`."""
        pictures = tuple(Picture(**picture) for picture in data["pictures"])
        ask = Ask.from_json(data["ask"]) if data.get("ask") else None
        config = LabelingConfig.from_json(data["config"])
        return cls(**{**data, "pictures": pictures, "config": config, "ask": ask})

    @property
    def is_delivered(self) -> bool:
        """Whether its prediction is for the task."""
        return not self.trial and self.ask is None


def job_of(
    task: Mapping[str, Any], project: int, config: LabelingConfig, version: str, level: int = logging.ERROR
) -> Job | None:
    """The job for a task as Label Studio sends it, or None when it has no image or no labels (logged at `level`)."""
    try:
        data = task.get("data")
        return Job(project, int(task["id"]), pictures(config, data), for_task(config, data), version)
    except (ConfigError, KeyError, TypeError, ValueError, OverflowError) as error:
        log.log(level, "task %s of project %s is left out: %s", task.get("id"), project, error)
        return None


@lru_cache(maxsize=64)
def _plain(config: LabelingConfig) -> dict[str, Any]:
    """A config as JSON values: thousands of tasks come with the same one."""
    return config.to_json()


def task_of(job_id: str) -> tuple[int, int]:
    """The project and task in a job's id, (0, 0) when it is none of ours."""
    found = re.match(r"p(\d+)-t(\d+)-", job_id)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def project_of(job_id: str) -> str:
    """The project in a job's id, as text; "0" for an id that is none of ours."""
    head = job_id[1:].partition("-")[0]
    return head if job_id.startswith("p") and head.isdigit() else "0"
