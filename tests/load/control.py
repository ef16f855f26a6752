"""The client of the stub's control port: what Label Studio itself does, done when a load run says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import requests

from tests.load.shelf import Faults
from tests.load.stub_studio import HOST


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

    def add_tasks(self, count: int) -> list[int]:
        """Create tasks of which the backend is not told."""
        ids: list[int] = self._ask("add", count=count)["tasks"]
        return ids

    def import_tasks(self, count: int) -> dict[str, Any]:
        return self._ask("import", count=count)

    def retrieve(self, ids: Sequence[int]) -> dict[str, Any]:
        return self._ask("retrieve", ids=list(ids))

    def open(self, task: int) -> None:
        """Somebody opens a task; does not wait for the answer."""
        self._ask("open", task=task)

    def delete_task(self, number: int) -> None:
        self._ask("delete_task", number=number)

    def change_config(self, config: str) -> None:
        """Somebody changes the labeling config."""
        self._ask("change_config", config=config)

    def faults(self, faults: Faults) -> None:
        self._ask("faults", **asdict(faults))

    def gone(self) -> None:
        self._ask("gone")

    def back(self) -> None:
        self._ask("back")
