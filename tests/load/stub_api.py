"""The public API of the stub of Label Studio, as far as the backend uses it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.load.queries import Refused
from tests.load.shelf import IN_BULK
from tests.load.stub_http import JSONHandler, reset

if TYPE_CHECKING:
    from tests.load.stub_studio import StubStudio

MOST_PROJECTS = 100
"""In one page of the list of projects."""


@dataclass(frozen=True)
class Request:
    """What a view gets: the stub, the numbers in the path, the query, the body."""

    studio: StubStudio
    numbers: tuple[int, ...]
    query: Mapping[str, str]
    raw: bytes

    @property
    def number(self) -> int:
        return self.numbers[0]

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def project(self) -> int:
        """The project that the query names, 0 when it names none."""
        return int(self.query.get("project") or 0)


Answer = tuple[int, Any]


def _image(ask: Request) -> Answer:
    project, upload = ask.numbers
    ask.studio.shelf.project(project)  # the uploads of a deleted project are gone with it
    return 200, ask.studio.image(upload)


def _user(ask: Request) -> Answer:
    return 200, {"id": 1, "email": "stub@example.com"}


def _predictions(ask: Request) -> Answer:
    return 200, ask.studio.shelf.predictions(int(ask.query["task"]))


def _predict(ask: Request) -> Answer:
    (created,) = ask.studio.shelf.store([ask.body], "pushed alone")
    return 201, {"id": created}


def _import_predictions(ask: Request) -> Answer:
    ask.studio.shelf.project(ask.number)
    return 201, {"created": len(ask.studio.shelf.store(ask.body, IN_BULK, ask.number))}


def _delete_prediction(ask: Request) -> Answer:
    ask.studio.shelf.delete(ask.number)
    return 204, None


def _tasks(ask: Request) -> Answer:
    size, page = int(ask.query.get("page_size", "100")), int(ask.query.get("page", "1"))
    whole = ask.query.get("fields") == "all"
    return 200, ask.studio.listed(ask.project, json.loads(ask.query.get("query", "{}")), size, page, whole)


def _task(ask: Request) -> Answer:
    task = ask.studio.shelf.task(ask.number)
    if not task.predictions:  # 1.23 asks as though an annotator had opened it
        ask.studio.retrieve([ask.number])
    return 200, task.whole()


def _change_task(ask: Request) -> Answer:
    ask.studio.shelf.change_data(ask.number, ask.body["data"])
    return 200, ask.studio.shelf.task(ask.number).bare()


def _delete_task(ask: Request) -> Answer:
    ask.studio.shelf.task(ask.number)
    ask.studio.delete_tasks([ask.number])
    return 204, None


def _annotations(ask: Request) -> Answer:
    return 200, ask.studio.shelf.task(ask.number).annotations


def _projects(ask: Request) -> Answer:
    shelf = ask.studio.shelf
    size, page = min(int(ask.query.get("page_size", "30")), MOST_PROJECTS), int(ask.query.get("page", "1"))
    newest_first = sorted(shelf.projects, reverse=True)
    rows = [shelf.project_row(number) for number in newest_first[(page - 1) * size : page * size]]
    more = f"http://stub/api/projects/?page={page + 1}" if page * size < len(newest_first) else None
    return 200, {"count": len(newest_first), "next": more, "previous": None, "results": rows}


def _project(ask: Request) -> Answer:
    return 200, ask.studio.shelf.project_row(ask.number)


def _change_project(ask: Request) -> Answer:
    return 200, ask.studio.change_config(ask.body["label_config"], ask.number)


def _delete_project(ask: Request) -> Answer:
    ask.studio.delete_project(ask.number)
    return 204, None


def _backends(ask: Request) -> Answer:
    return 200, ask.studio.connections.backends_of(ask.studio.shelf.project(ask.project))


def _connect(ask: Request) -> Answer:
    project = ask.studio.shelf.project(int(ask.body["project"]))
    return 201, ask.studio.connections.connect(project, ask.body["url"], ask.body.get("title", "default"))


def _disconnect(ask: Request) -> Answer:
    ask.studio.connections.disconnect(ask.number)
    return 204, None


def _webhooks(ask: Request) -> Answer:
    if ask.project not in ask.studio.shelf.projects:
        raise Refused(400, {"project": ["Select a valid choice. That choice is not one of the available choices."]})
    return 200, ask.studio.connections.webhooks_of(ask.project)


def _add_webhook(ask: Request) -> Answer:
    ask.studio.shelf.project(int(ask.body["project"]))
    return 201, ask.studio.connections.add_webhook(ask.body)


def _change_webhook(ask: Request) -> Answer:
    return 200, ask.studio.connections.change_webhook(ask.number, ask.body)


def _delete_webhook(ask: Request) -> Answer:
    ask.studio.connections.delete_webhook(ask.number)
    return 204, None


ROUTES: tuple[tuple[str, str, Callable[[Request], Answer]], ...] = (
    ("GET", "/api/current-user/whoami", _user),
    ("GET", "/api/predictions/", _predictions),
    ("POST", "/api/predictions/", _predict),
    ("DELETE", r"/api/predictions/(\d+)/", _delete_prediction),
    ("POST", r"/api/projects/(\d+)/import/predictions", _import_predictions),
    ("GET", "/api/tasks/", _tasks),
    ("GET", r"/api/tasks/(\d+)/", _task),
    ("PATCH", r"/api/tasks/(\d+)/", _change_task),
    ("DELETE", r"/api/tasks/(\d+)/", _delete_task),
    ("GET", r"/api/tasks/(\d+)/annotations/", _annotations),
    ("GET", "/api/projects/", _projects),
    ("GET", r"/api/projects/(\d+)/", _project),
    ("PATCH", r"/api/projects/(\d+)/", _change_project),
    ("DELETE", r"/api/projects/(\d+)/", _delete_project),
    ("GET", "/api/ml/?", _backends),
    ("POST", "/api/ml/?", _connect),
    ("DELETE", r"/api/ml/(\d+)/?", _disconnect),
    ("GET", "/api/webhooks/", _webhooks),
    ("POST", "/api/webhooks/", _add_webhook),
    ("PATCH", r"/api/webhooks/(\d+)/", _change_webhook),
    ("DELETE", r"/api/webhooks/(\d+)/", _delete_webhook),
)
_IMAGE = re.compile(r"/data/upload/(\d+)/([0-9a-f]{8})-photo\.jpg")


class StudioHandler(JSONHandler):
    """Checks the token, lets requests fail as the stub's `Faults` say, and finds the view."""

    def do_GET(self) -> None:
        studio, body = self.server.studio, self._body()
        pause, fate = studio.fate()
        time.sleep(pause)
        path = urlsplit(self.path).path
        studio.shelf.counts[f"requests {self.command} {re.sub('[0-9a-f]{8}-|[0-9]+', 'N', path)}"] += 1
        if fate == "error":
            self._send(500, {"detail": "database is locked"})
            return
        status, answer = 0, None
        if fate != "cut before":
            try:
                if self.headers.get("Authorization") != f"Token {studio.token}":
                    raise Refused(401, "Invalid token.")
                status, answer = self._answer(path, body)
            except Refused as refused:
                status, answer = refused.status, refused.body
        if fate.startswith("cut"):
            studio.shelf.counts[fate] += 1
            self.close_connection = True
            reset(self.connection)
        else:
            self._send(status, answer, "image/jpeg" if isinstance(answer, bytes) else "application/json")

    do_POST = do_DELETE = do_PATCH = do_GET

    def _answer(self, path: str, body: bytes) -> Answer:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        if self.command == "GET" and (found := _IMAGE.fullmatch(path)):
            return _image(Request(self.server.studio, (int(found[1]), int(found[2], 16)), query, body))
        for method, pattern, view in ROUTES:
            if method == self.command and (found := re.fullmatch(pattern, path)):
                return view(Request(self.server.studio, tuple(map(int, found.groups())), query, body))
        raise Refused(404, "Not found.")
