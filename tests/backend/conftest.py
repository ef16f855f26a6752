"""A labeling config, tasks and a Label Studio that exists only in memory, for tests of what talks to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from backend.delivery import Delivery
from backend.labeling.parsing import LabelingConfig, Picture, parse_config
from backend.queue.jobs import Job, Jobs
from backend.settings import Settings
from backend.studio.client import StudioError, StudioUnavailable

CONFIG = """<View><Image name="image" value="$image"/>
<BrushLabels name="mask" toName="image"><Label value="cat"/><Label value="moai" alias="statue"/></BrushLabels></View>"""


def task(number: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "data": {"image": f"/data/upload/1/{number}.png"}, "predictions": [], **more}


def one_image(address: str) -> tuple[Picture, ...]:
    """What a job has for a task with one image."""
    return (Picture("image", address),)


def finished(version: str, *labels: str) -> dict[str, Any]:
    regions = [{"id": label, "type": "brushlabels", "value": {"brushlabels": [label]}} for label in labels]
    return {"result": regions, "score": 0.9 if labels else 0.0, "model_version": version}


class MemoryStudio:
    """Behaves as Label Studio 1.23 was measured to: no upsert, a batch with an unknown task is refused whole."""

    def __init__(self, tasks: Sequence[int] = ()):
        self.stored: dict[int, list[dict[str, Any]]] = {number: [] for number in tasks}
        self.annotated: dict[int, list[dict[str, Any]]] = {}
        self.down = False
        self.silently_drops = False
        self.calls: list[str] = []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.down:
            raise StudioUnavailable("connection refused")

    def existing_tasks(self, project: int, tasks: Sequence[int]) -> set[int]:
        self._called("existing")
        return set(tasks) & set(self.stored)

    def predictions(self, task_id: int) -> list[dict[str, Any]]:
        self._called("predictions")
        return list(self.stored.get(task_id, []))

    def annotations(self, task_id: int) -> list[dict[str, Any]]:
        self._called("annotations")
        return self.annotated.get(task_id, [])

    def create_prediction(self, task_id: int, prediction: Mapping[str, Any]) -> bool:
        self._called("create")
        if task_id not in self.stored:
            return False
        self._store(task_id, prediction)
        return True

    def delete_prediction(self, prediction_id: int) -> bool:
        self._called("delete")
        for stored in self.stored.values():
            stored[:] = [one for one in stored if one["id"] != prediction_id]
        return True

    def _store(self, task_id: int, prediction: Mapping[str, Any]) -> None:
        number = 1 + sum(len(stored) for stored in self.stored.values())
        self.stored[task_id].append({"id": number, **prediction})

    def import_predictions(self, project: int, predictions: Sequence[Mapping[str, Any]]) -> int:
        self._called("import")
        if any(prediction["task"] not in self.stored for prediction in predictions):
            raise StudioError("400: one task is unknown")
        if self.silently_drops:
            return 0
        for prediction in predictions:
            self._store(prediction["task"], prediction)
        return len(predictions)


@pytest.fixture
def config() -> LabelingConfig:
    return parse_config(CONFIG, "demo")


@pytest.fixture
def jobs(redis: Any, settings: Settings) -> Jobs:
    return Jobs(redis, settings)


@pytest.fixture
def delivery(jobs: Jobs, settings: Settings) -> Delivery:
    return Delivery(jobs.redis, jobs, settings.car_verify_seconds)


@pytest.fixture
def job(config: LabelingConfig) -> Job:
    return Job(1, 7, one_image("/data/upload/1/7.png"), config, config.version())
