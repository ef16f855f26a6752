"""A labeling config, tasks and a Label Studio that exists only in memory, for tests of what talks to one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from backend.connections import webhook_problem
from backend.delivery import Delivery
from backend.labeling.config import address_digest
from backend.labeling.parsing import LabelingConfig, Picture, parse_config
from backend.queue.jobs import Job, Jobs
from backend.settings import Settings
from backend.studio.client import (
    PAGE,
    SECRET_HEADER,
    WHOLE_PAGE,
    StudioError,
    StudioUnavailable,
    TaskFilter,
    secret_of,
)

CONFIG = """<View><Image name="image" value="$image"/>
<BrushLabels name="mask" toName="image"><Label value="cat"/><Label value="moai" alias="statue"/></BrushLabels></View>"""


def task(number: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "data": {"image": f"/data/upload/1/{number}.png"}, "predictions": [], **more}


def one_image(address: str) -> tuple[Picture, ...]:
    """What a job has for a task with one image."""
    return (Picture("image", address),)


def finished(version: str, *labels: str, address: str = "") -> dict[str, Any]:
    """A prediction; with the `address` of an image its regions have ids as workers give them."""
    regions = []
    for label in labels:
        region_id = address_digest(address) + address_digest(label) if address else label
        value = {"brushlabels": [label]}
        regions.append({"id": region_id, "to_name": "image", "type": "brushlabels", "value": value})
    return {"result": regions, "score": 0.9 if labels else 0.0, "model_version": version}


NOW = "2026-01-01T00:00:00.000000Z"


class MemoryStudio:
    """Behaves as Label Studio 1.23 was measured to: no upsert, a batch with an unknown task is refused whole.

    `projects` are those that are there; every task is of project 1 unless `owner` says otherwise.
    """

    def __init__(self, tasks: Sequence[int] = (), config: str = CONFIG):
        self.config = config
        self.stored: dict[int, list[dict[str, Any]]] = {number: [] for number in tasks}
        self.data: dict[int, dict[str, Any]] = {number: task(number)["data"] for number in tasks}
        self.changed: dict[int, str] = {}
        self.owner: dict[int, int] = {}
        self.annotated: dict[int, list[dict[str, Any]]] = {}
        self.projects_there = {1}
        self.rows: dict[int, list[dict[str, Any]]] = {}
        """Project -> its ML backends."""
        self.setup: Callable[[int], None] = lambda project: None
        """Called for a project whose ML backends are listed, as Label Studio calls /setup."""
        self.hooks: dict[int, dict[str, dict[str, str]]] = {}
        """Project -> addresses of its webhooks, each with its headers."""
        self.down = False
        self.silently_drops = False
        self.calls: list[str] = []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.down:
            raise StudioUnavailable("connection refused")

    def show(self, number: int, address: str, moment: str = "2026-01-02T00:00:00.000000Z") -> None:
        """Replace a task's image, or create the task."""
        self.stored.setdefault(number, [])
        self.data[number] = {"image": address}
        self.changed[number] = moment

    def delete(self, number: int) -> None:
        """Delete a task with all that hangs on it."""
        for kept in (self.stored, self.data, self.changed, self.annotated):
            kept.pop(number, None)  # type: ignore[attr-defined]

    def project(self, project: int) -> dict[str, Any] | None:
        self._called("project")
        return {"id": project, "label_config": self.config} if project in self.projects_there else None

    def update_project(self, project: int, **fields: Any) -> None:
        self._called("update project")
        self.config = fields["label_config"]

    def projects(self) -> list[dict[str, Any]]:
        self._called("projects")
        return [{"id": project} for project in sorted(self.projects_there)]

    def authorization(self) -> dict[str, str]:
        return {}

    def hold(self, found: Mapping[str, Any], moment: str = NOW) -> None:
        """Hold a task with its data, predictions and annotations, changed at a moment."""
        number = found["id"]
        self.data[number], self.changed[number] = found["data"], moment
        self.stored[number] = list(found.get("predictions", ()))
        self.annotated[number] = list(found.get("annotations", ()))

    def task(self, number: int, project: int) -> dict[str, Any] | None:
        self._called("task")
        return self._shown(number, whole=True) if number in self.stored and self._owner(number) == project else None

    def annotations(self, number: int) -> list[dict[str, Any]]:
        self._called("annotations")
        return self.annotated.get(number, [])

    def tasks(self, project: int, after: int = 0, *, whole: bool = False) -> Iterator[dict[str, Any]]:
        while page := self.tasks_beyond(project, after, whole=whole):
            yield from page
            after = page[-1]["id"]

    def tasks_beyond(
        self, project: int, after: int, which: TaskFilter | None = None, *, whole: bool = False
    ) -> list[dict[str, Any]]:
        self._called("whole tasks" if whole else "tasks")
        if project not in self.projects_there:
            raise StudioError("404: no such project", 404)
        which = which or TaskFilter()
        size = WHOLE_PAGE if whole else PAGE
        numbers = [n for n in sorted(self.stored) if n > after and self._matches(n, project, which)]
        return [self._shown(number, whole) for number in numbers[:size]]

    def newest_change(self, project: int) -> str:
        self._called("newest")
        own = [n for n in self.stored if self._owner(n) == project]
        return max((self.changed.get(number, NOW) for number in own), default="")

    def _owner(self, number: int) -> int:
        return self.owner.get(number, 1)

    def _matches(self, number: int, project: int, which: TaskFilter) -> bool:
        versions = [str(one.get("model_version")) for one in self.stored[number]]
        return (
            self._owner(number) == project
            and not (which.ids and number not in which.ids)
            and not (which.lacking and any(which.lacking in version for version in versions))
            and not (which.holding and not any(which.holding in version for version in versions))
            and not (which.created_after and which.created_after >= NOW)
            and not (which.updated_after and self.changed.get(number, NOW) <= which.updated_after)
        )

    def _shown(self, number: int, whole: bool) -> dict[str, Any]:
        found = {
            "id": number,
            "data": self.data[number],
            "created_at": NOW,
            "updated_at": self.changed.get(number, NOW),
            "total_annotations": len(self.annotated.get(number, ())),
        }
        if not whole:
            return found
        return {**found, "predictions": list(self.stored[number]), "annotations": self.annotated.get(number, [])}

    def connect(self, project: int, url: str, since: str = "2025-01-01T00:00:00.000000Z") -> None:
        """Connect a model, as Label Studio 1.23 does: with a webhook, unless it takes the address for none."""
        number = 10 * project + len(self.rows.get(project, ()))
        row = {"id": number, "url": url, "created_at": since, "state": "CO", "model_version": "car-demo-0-0"}
        self.rows.setdefault(project, []).append(row)
        self.setup(project)
        if not webhook_problem(url):
            self.hooks.setdefault(project, {})[url.rstrip("/") + "/webhook"] = {}

    def backends(self, project: int) -> list[dict[str, Any]]:
        self._called("backends")
        if self.rows.get(project):
            self.setup(project)
        return self.rows.get(project, [])

    def ensure_webhook(self, project: int, url: str, auth: tuple[str, str] | None = None) -> bool:
        self._called("ensure webhook")
        if webhook_problem(url):
            raise StudioError("Label Studio answered 400: Enter a valid URL.", 400)
        own = self.hooks.setdefault(project, {})
        is_new = url.rstrip("/") + "/webhook" not in own
        own.setdefault(url.rstrip("/") + "/webhook", {}).update({SECRET_HEADER: secret_of(auth)} if auth else {})
        return is_new

    def remove_webhooks(self, project: int, urls: Iterable[str]) -> int:
        self._called("remove webhooks")
        own = self.hooks.get(project, {})
        return sum(own.pop(url.rstrip("/") + "/webhook", None) is not None for url in urls)

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
        number = 1 + max((one["id"] for stored in self.stored.values() for one in stored), default=0)
        self.stored[task_id].append({"id": number, "created_at": NOW, **prediction})

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
