"""A stub of Label Studio over real HTTP: it answers, fails and forgets as Label Studio 1.23 was measured to.

What the backend calls is served on the public port (`stub_api`): images, tasks, predictions (no upsert: the same
prediction twice is there twice; one unknown task refuses the whole batch), projects, ML backends and webhooks. What
Label Studio itself does is asked for on the control port: `import` tells the webhooks of new tasks, waits a second and
never repeats it; `retrieve` asks for predictions and keeps what comes back.

Requests may be slow, fail with 500, or lose their connection before or after the work is done (`Faults`). `gone`
closes the public port with all its connections and drops what Label Studio itself was doing; `back` opens it again.
The data stay. Each upload has an image of its own, and `report` tells which predictions were made from another image
than that of their task (`image_codes`).
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import requests

from tests.load.connections import Connections
from tests.load.image_codes import CODES, jpeg, photo
from tests.load.queries import Refused
from tests.load.shelf import Faults, Shelf
from tests.load.stub_api import StudioHandler
from tests.load.stub_http import HOST, JSONHandler, Server

TOKEN = "stub-token"
PROJECT = 1
"""The project that there is from the beginning."""
LABELS = ("cat", "dog", "moai")
CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="mask" toName="image">'
    + "".join(f'<Label value="{label}"/>' for label in LABELS)
    + "</BrushLabels></View>"
)
PREDICT_TIMEOUT = 100.0
"""Seconds, as in Label Studio 1.23."""


class StubStudio:
    """The stub: its data, its connections, its faults, its public server, and what it does of its own accord."""

    def __init__(self, port: int, pixels: int = 256 * 256, codes: int = CODES, seed: int = 0):
        """`codes` is how many different images of so many pixels there are; each is made when it is first asked for."""
        self.port = port
        self.token = TOKEN
        self.shelf = Shelf(codes)
        self.shelf.add_project("load", CONFIG)
        self.connections = Connections(f"http://{HOST}:{port}", TOKEN)
        self.faults = Faults()
        self.times_gone = 0
        plain = photo(pixels, seed)
        self._jpeg = cache(lambda code: jpeg(plain, code))
        self._random = random.Random(seed)
        self._server: Server | None = None

    @property
    def config(self) -> str:
        """The labeling config of the first project; setting it tells nobody."""
        return self.shelf.projects[PROJECT].config

    @config.setter
    def config(self, config: str) -> None:
        self.shelf.projects[PROJECT].config = config

    def image(self, upload: int) -> bytes:
        """The JPEG of an upload by its number, those of deleted tasks too."""
        return self._jpeg(upload % self.shelf.codes)

    def back(self) -> None:
        """Open the public port."""
        if self._server is None:
            self._server = Server((HOST, self.port), StudioHandler, self)
            self._server.serve_in_thread()

    def gone(self) -> None:
        """Close the public port and cut every connection."""
        if self._server is not None:
            self.times_gone += 1
            self._server.stop()
            self._server = None

    def fate(self) -> tuple[float, str]:
        """Seconds of latency for the next request, and what befalls it: "", "error", "cut before" or "cut after"."""
        faults, chance = self.faults, self._random.random()
        pause = faults.latency * self._random.uniform(0.5, 1.5)
        if chance < faults.errors:
            return pause, "error"
        if chance < faults.errors + faults.resets:
            return pause, self._random.choice(("cut before", "cut after"))
        return pause, ""

    # What Label Studio does of its own accord

    def import_tasks(self, count: int, project: int = PROJECT) -> dict[str, Any]:
        """Create tasks and tell the project's webhooks once."""
        return self._tell_of(self.shelf.add_tasks(count, project), project)

    def replace_newest(self, count: int, project: int = PROJECT) -> dict[str, Any]:
        """Delete a project's newest tasks by API, and import as many at once: they get the same ids."""
        return self._tell_of(self.shelf.replace_newest(count, project), project)

    def _tell_of(self, ids: list[int], project: int) -> dict[str, Any]:
        begun = time.perf_counter()
        accepted = self._tell(project, "TASKS_CREATED", {"tasks": [self.task(number) for number in ids]})
        return {"tasks": ids, "accepted": accepted, "seconds": time.perf_counter() - begun}

    def _tell(self, project: int, action: str, payload: Mapping[str, Any]) -> bool:
        """Tell the project's webhooks; whether there is one and all accepted it."""
        row = self.shelf.project_row(project)
        accepted = self.connections.tell(project, action, {**payload, "project": row})
        self.shelf.counts["webhooks"] += sum(accepted)
        self.shelf.counts["webhooks lost"] += len(accepted) - sum(accepted)
        return bool(accepted) and all(accepted)

    def delete_tasks(self, ids: Sequence[int], told: bool = False) -> None:
        """Delete tasks: by API, or from the Data Manager's menu, of which a project's webhooks are told."""
        projects = {self.shelf.tasks[number].project for number in ids if number in self.shelf.tasks}
        for number in ids:
            self.shelf.delete_task(number)
        if told:
            for project in projects:
                self._tell(project, "TASKS_DELETED", {"tasks": [{"id": number} for number in ids]})

    def delete_project(self, project: int) -> None:
        """Delete a project with its tasks, ML backends and webhooks; none of its webhooks is told."""
        self.shelf.delete_project(project)
        self.connections.forget(project)

    def change_config(self, config: str, project: int = PROJECT) -> dict[str, Any]:
        """Change a labeling config, as somebody does in the project's settings; webhooks are told once."""
        self.shelf.project(project).config = config
        self._tell(project, "PROJECT_UPDATED", {})
        return self.shelf.project_row(project)

    def retrieve(self, ids: Sequence[int]) -> dict[str, Any]:
        """Ask for predictions of those tasks that have none of the current version, as its Retrieve button does.

        One task is what opening it asks. All are of one project, whose ML backend is asked. Whatever comes back is
        stored one by one, unless Label Studio has gone since; `lacking` says how many still have none.
        """
        lives, begun = self.times_gone, time.perf_counter()
        failed = {"asked": 0, "answered": 0, "seconds": 0.0, "lacking": len(ids)}
        tasks = [self.shelf.tasks[number] for number in ids if number in self.shelf.tasks]
        if self._server is None or not tasks:
            return failed
        project = self.shelf.project(tasks[0].project)
        backend = next(iter(self.connections.backends_of(project)), None)
        if backend is None or backend["state"] != "CO":
            self.shelf.counts["retrievals failed"] += 1
            return failed
        asked = [task for task in tasks if backend["model_version"] not in task.versions()]
        if not asked:
            return {**failed, "lacking": 0}
        body = {
            "tasks": [task.whole() for task in asked],
            "project": project.uid,
            "label_config": project.config,
            "params": {"login": None, "password": None, "context": None},
        }
        begun = time.perf_counter()
        try:
            answer = requests.post(f"{backend['url']}/predict", json=body, timeout=PREDICT_TIMEOUT)
            seconds = time.perf_counter() - begun
            results = answer.json()["results"]
        except (requests.RequestException, ValueError, KeyError):
            self.shelf.counts["retrievals failed"] += 1
            return failed
        stored = 0
        for task, result in zip(asked, results, strict=True):
            time.sleep(self.fate()[0])
            if self.times_gone != lives:
                self.shelf.counts["answers dropped"] += 1
            elif isinstance(result, dict) and "result" in result:
                stored += self._store_answer(task.number, result)
        return {"asked": len(asked), "answered": stored, "seconds": seconds, "lacking": len(asked) - stored}

    def _store_answer(self, task: int, result: Mapping[str, Any]) -> int:
        try:
            return len(self.shelf.store([{**result, "task": task}], "answered"))
        except Refused:  # the task was deleted while the backend was asked
            self.shelf.counts["answers dropped"] += 1
            return 0

    # What Label Studio answers

    def listed(
        self, project: int, query: Mapping[str, Any], size: int, page: int, whole: bool = False
    ) -> dict[str, Any]:
        """One page of tasks as the Data Manager answers it."""
        total, found = self.shelf.listed(project, query, size, page)
        if page > 1 and not found:
            raise Refused(404, "Invalid page.")
        rows = []
        for task in found:
            row = task.whole() if whole else task.bare()
            rows.append({**row, "predictions_model_versions": ",".join(sorted(task.versions()))})
        return {"tasks": rows, "total": total}

    def task(self, number: int) -> dict[str, Any]:
        """A task as Label Studio 1.23 puts it into webhooks."""
        return self.shelf.task(number).bare()

    def ids(self, project: int = PROJECT, delivered: bool | None = None) -> dict[str, Any]:
        """A project's tasks: all, or those with (without) a prediction."""
        tasks = self.shelf.tasks_of(project)
        return {"tasks": [task.number for task in tasks if delivered in (None, bool(task.predictions))]}


class ControlHandler(JSONHandler):
    """What tests and load runs tell the stub to do; it is there when Label Studio is gone."""

    def do_POST(self) -> None:
        studio, name = self.server.studio, self.path.strip("/")
        asked = json.loads(self._body() or b"{}")
        shelf, connections = studio.shelf, studio.connections
        commands = {
            "report": shelf.report,
            "ids": studio.ids,
            "add": lambda count, project=PROJECT: {"tasks": shelf.add_tasks(count, project)},
            "import": studio.import_tasks,
            "replace_newest": studio.replace_newest,
            "delete_tasks": studio.delete_tasks,
            "change_images": lambda ids: [shelf.change_image(number) for number in ids if number in shelf.tasks],
            "create_project": lambda title, config=CONFIG: {"project": shelf.add_project(title, config)},
            "delete_project": studio.delete_project,
            "change_config": studio.change_config,
            "connect": lambda url, project=PROJECT: connections.connect(shelf.project(project), url),
            "disconnect": lambda backend: connections.disconnect(number=backend),
            "webhooks": lambda project=PROJECT: {"webhooks": connections.webhooks_of(project)},
            "delete_webhook": lambda webhook: connections.delete_webhook(number=webhook),
            "retrieve": studio.retrieve,
            "open": lambda task: threading.Thread(target=studio.retrieve, args=([task],), daemon=True).start(),
            "faults": lambda **faults: setattr(studio, "faults", Faults(**faults)),
            "gone": studio.gone,
            "back": studio.back,
        }
        try:
            self._send(200, commands[name](**asked) or {})
        except Refused as refused:
            self._send(refused.status, refused.body)


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.stub_studio")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--control-port", type=int, required=True)
    parser.add_argument("--pixels", type=int, default=256 * 256)
    parser.add_argument("--codes", type=int, default=CODES, help="different images (default %(default)s)")
    args = parser.parse_args()
    studio = StubStudio(args.port, args.pixels, args.codes)
    studio.back()
    Server((HOST, args.control_port), ControlHandler, studio).serve_in_thread()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


if __name__ == "__main__":
    main()
