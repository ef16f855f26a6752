"""The client of the stub's control port: what Label Studio itself does, done when a load run says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import requests

from tests.load.shelf import Faults
from tests.load.stub_studio import HOST, PROJECT


class Control:
    """A client of the control port."""

    def __init__(self, port: int):
        self.url = f"http://{HOST}:{port}"
        self._http = requests.Session()

    def _ask(self, name: str, **options: Any) -> dict[str, Any]:
        answer = self._http.post(f"{self.url}/{name}", json=options, timeout=150)
        answer.raise_for_status()
        result: dict[str, Any] = answer.json()
        return result

    def answers(self) -> bool:
        try:
            return bool(self.report())
        except requests.RequestException:
            return False

    def report(self) -> dict[str, Any]:
        return self._ask("report")

    # Tasks

    def ids(self, project: int = PROJECT, delivered: bool | None = None) -> list[int]:
        """A project's tasks: all, or those with (without) a prediction."""
        ids: list[int] = self._ask("ids", project=project, delivered=delivered)["tasks"]
        return ids

    def add_tasks(self, count: int, project: int = PROJECT) -> list[int]:
        """Create tasks of which no webhook tells."""
        ids: list[int] = self._ask("add", count=count, project=project)["tasks"]
        return ids

    def import_tasks(self, count: int, project: int = PROJECT) -> dict[str, Any]:
        """Create tasks; webhooks are told. `tasks`, whether all webhooks were `accepted`, `seconds`."""
        return self._ask("import", count=count, project=project)

    def replace_newest(self, count: int, project: int = PROJECT) -> dict[str, Any]:
        """Delete the newest tasks by API and import as many, which get the same ids; as `import_tasks`."""
        return self._ask("replace_newest", count=count, project=project)

    def delete_tasks(self, ids: Sequence[int], told: bool = False) -> None:
        """Delete tasks by API, or (`told`) by the Data Manager's menu, which tells the webhooks."""
        self._ask("delete_tasks", ids=list(ids), told=told)

    def change_images(self, ids: Sequence[int]) -> None:
        """PATCH the data of tasks: each gets another image."""
        self._ask("change_images", ids=list(ids))

    def retrieve(self, ids: Sequence[int]) -> dict[str, Any]:
        return self._ask("retrieve", ids=list(ids))

    def open(self, task: int) -> None:
        """Somebody opens a task; does not wait for the answer."""
        self._ask("open", task=task)

    # Projects and what they are connected to

    def create_project(self, title: str) -> int:
        """Create a project with the labeling config of the first."""
        return int(self._ask("create_project", title=title)["project"])

    def delete_project(self, project: int) -> None:
        self._ask("delete_project", project=project)

    def change_config(self, config: str, project: int = PROJECT) -> None:
        """Somebody changes the labeling config."""
        self._ask("change_config", config=config, project=project)

    def connect(self, url: str, project: int = PROJECT) -> int:
        """Connect an ML backend, which must answer; its id. Its webhook is made with it."""
        return int(self._ask("connect", url=url, project=project)["id"])

    def disconnect(self, backend: int) -> None:
        """Disconnect an ML backend; its webhook stays behind."""
        self._ask("disconnect", backend=backend)

    def webhooks(self, project: int = PROJECT) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("webhooks", project=project)["webhooks"]
        return found

    def delete_webhook(self, webhook: int) -> None:
        self._ask("delete_webhook", webhook=webhook)

    # Its health

    def faults(self, faults: Faults) -> None:
        self._ask("faults", **asdict(faults))

    def gone(self) -> None:
        self._ask("gone")

    def back(self) -> None:
        self._ask("back")
