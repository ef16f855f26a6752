"""The one client of Label Studio: tasks, predictions, projects, ML backends and webhooks.

Written over `requests`: Label Studio's own SDK takes four seconds and 220 MB to import. What each call does is
checked against Label Studio 1.23.2 in tests/e2e/test_studio.py.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from backend.studio.filters import TaskFilter, query
from backend.studio.session import StudioError, StudioSession, StudioUnavailable

__all__ = ["Studio", "StudioError", "StudioUnavailable", "TaskFilter"]

PAGE = 100
"""Tasks or projects asked for at once; Label Studio 1.23 allows no more projects than this."""

WHOLE_PAGE = 25
"""Tasks asked for at once with all that hangs on them: masks are large."""

SECRET_HEADER = "X-CaR-Secret"
"""What our webhooks carry where the backend asks for a password."""

LONG_TIMEOUT = 120.0
"""Seconds for what Label Studio works on while we wait: imports, bulk predictions, connecting a backend."""


class Studio:
    """One Label Studio, with the rights of the user whose token this is. Safe to share between threads.

    Every method raises StudioUnavailable when the call may succeed later, and StudioError when it won't.
    """

    def __init__(self, url: str, api_key: str, timeout: float = 10.0) -> None:
        """`api_key` is a personal access token or a legacy token, `timeout` is in seconds."""
        self.session = StudioSession(url, api_key, timeout)
        self.url = self.session.url

    def authorization(self) -> dict[str, str]:
        """Return the header for a request of one's own to this Label Studio, good for at least a minute."""
        return self.session.authorization()

    def user(self) -> dict[str, Any]:
        """Return whose token this is: `id`, `email`, `active_organization`, ..."""
        return _object(self.session.get("/api/current-user/whoami"))

    # Tasks

    def task(self, task_id: int, project: int | None = None) -> dict[str, Any] | None:
        """Return a task with its data, annotations and predictions, or None when it was deleted.

        Label Studio 1.23 asks the project's ML backend for a prediction when a task without one is read by its id
        alone, as though an annotator had opened it. With `project` given it is read from the Data Manager's list,
        which asks nobody.
        """
        if project is None:
            return self._or_none(f"/api/tasks/{task_id}/", params={"resolve_uri": "false"})
        selected = {"selectedItems": {"all": False, "included": [task_id]}}
        tasks = self._task_page(project, selected, page_size=1, fields="all")
        return tasks[0] if tasks else None

    def tasks(
        self, project: int, after: int = 0, which: TaskFilter | None = None, *, whole: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Yield the project's tasks that match, with their data, by rising id, those beyond `after` only.

        `total_predictions` and `total_annotations` are counts; the predictions and annotations themselves come with
        `whole` only. Pages go by id, so that tasks created or deleted meanwhile neither hide nor repeat another one.
        """
        while page := self.tasks_beyond(project, after, which, whole=whole):
            yield from page
            after = int(page[-1]["id"])

    def tasks_beyond(
        self, project: int, after: int, which: TaskFilter | None = None, *, whole: bool = False
    ) -> list[dict[str, Any]]:
        """Return one page of `tasks`; it is empty when there are no more."""
        size, fields = (WHOLE_PAGE, {"fields": "all"}) if whole else (PAGE, {})
        return self._task_page(project, query(which, after), page_size=size, **fields)

    def newest_change(self, project: int) -> str:
        """Return when a task of a project changed last (`updated_at`, ISO 8601), "" when there is no task."""
        asked = {**query(), "ordering": ["-tasks:updated_at"]}
        tasks = self._task_page(project, asked, page_size=1)
        return str(tasks[0]["updated_at"]) if tasks else ""

    def count_tasks(self, project: int, which: TaskFilter | None = None) -> int:
        """Return how many tasks of a project there are, or how many match."""
        return int(self._task_list(project, query(which), page_size=1).get("total", 0))

    def spread_tasks(self, project: int, count: int, which: TaskFilter | None = None) -> list[dict[str, Any]]:
        """Return up to `count` tasks at even distances over the project, by rising id; see `tasks`."""
        total = self.count_tasks(project, which)
        places = sorted({1 + (2 * number + 1) * total // (2 * count) for number in range(count)} if total else ())
        pages = (self._task_page(project, query(which), page_size=1, page=min(place, total)) for place in places)
        return [task for page in pages for task in page]

    def _task_page(self, project: int, asked: Mapping[str, Any], **options: Any) -> list[dict[str, Any]]:
        return _objects(self._task_list(project, asked, **options).get("tasks"))

    def _task_list(self, project: int, asked: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        params = {"project": project, "resolve_uri": "false", "query": json.dumps(asked), **options}
        return _object(self.session.get("/api/tasks/", params=params))

    def delete_task(self, task_id: int) -> bool:
        """Delete a task with all that hangs on it; False when it was gone already."""
        return self._delete(f"/api/tasks/{task_id}/")

    def import_tasks(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> int:
        """Create tasks from their data, each `{"data": {...}}` or the bare data; return how many there are now."""
        created = self._import(project, json=list(tasks))
        return int(_object(created).get("task_count", 0))

    def upload_files(self, project: int, paths: Sequence[Path]) -> list[str]:
        """Upload files without making tasks of them; return the address of each, as a task's data has it, in order."""
        with ExitStack() as opened:
            files = [(path.name, (path.name, opened.enter_context(path.open("rb")))) for path in paths]
            created = self._import(project, files=files, params={"commit_to_project": "false"})
        ids = _object(created).get("file_upload_ids", [])
        found = self.session.get(f"/api/projects/{project}/file-uploads", params={"ids": json.dumps(ids)})
        stored = {one["id"]: one["file"] for one in _objects(found)}
        return [f"/data/{stored[one]}" for one in ids]

    def _import(self, project: int, **body: Any) -> Any:
        return self.session.send("POST", f"/api/projects/{project}/import", timeout=LONG_TIMEOUT, **body)

    # Predictions

    def predictions(self, task_id: int) -> list[dict[str, Any]]:
        """Return the task's predictions with their results; none when the task is gone."""
        answer = self.session.respond("GET", "/api/predictions/", params={"task": task_id})
        if answer.status_code in (400, 404):  # 1.23: 400, "not one of the available choices"
            return []
        return _objects(self.session.decoded(answer))

    def annotations(self, task_id: int) -> list[dict[str, Any]]:
        """Return the task's annotations with their results, skipped ones too; none when the task is gone."""
        answer = self.session.respond("GET", f"/api/tasks/{task_id}/annotations/")
        if answer.status_code in (403, 404):
            return []
        return _objects(self.session.decoded(answer))

    def create_prediction(self, task_id: int, prediction: Mapping[str, Any]) -> bool:
        """Store one prediction (`result`, `score`, `model_version`); False when the task is gone.

        Label Studio 1.23 doesn't replace one of the same version: sent twice it is there twice.
        """
        body = {**prediction, "task": task_id}
        answer = self.session.respond("POST", "/api/predictions/", json=body, timeout=LONG_TIMEOUT)
        if answer.status_code in (400, 403, 404) and not self.task_exists(task_id):
            return False
        self.session.decoded(answer)
        return True

    def import_predictions(self, project: int, predictions: Sequence[Mapping[str, Any]]) -> int:
        """Store many predictions (each with `task`, `result`, `score`, `model_version`) at once; return the number.

        All or none where a task is gone or of another project: Label Studio 1.23 answers 400, which is raised as
        StudioError. A result that doesn't fit the labeling config is left out without a word, hence the number.
        """
        path = f"/api/projects/{project}/import/predictions"
        created = self.session.send("POST", path, json=[dict(one) for one in predictions], timeout=LONG_TIMEOUT)
        return int(_object(created).get("created", 0))

    def delete_prediction(self, prediction_id: int) -> bool:
        """Delete one prediction; False when it was gone already."""
        return self._delete(f"/api/predictions/{prediction_id}/")

    def task_exists(self, task_id: int) -> bool:
        """Tell whether a task exists, without having Label Studio ask for its prediction."""
        answer = self.session.respond("GET", f"/api/tasks/{task_id}/annotations/")
        if answer.status_code in (403, 404):
            return False
        self.session.decoded(answer)
        return True

    # Projects

    def projects(self) -> Iterator[dict[str, Any]]:
        """Yield every project that the user sees: `id`, `title`, `label_config`, `task_number`, ..."""
        page = 1
        while True:
            listed = _object(self.session.get("/api/projects/", params={"page": page, "page_size": PAGE}))
            yield from _objects(listed.get("results"))
            if not listed.get("next"):
                return
            page += 1

    def project(self, project: int) -> dict[str, Any] | None:
        """Return one project, with `task_number` and `total_predictions_number`; None when there is none."""
        return self._or_none(f"/api/projects/{project}/")

    def create_project(self, title: str, label_config: str, **fields: Any) -> int:
        """Create a project and return its id. Label Studio 1.23 wants at least three characters of title."""
        body = {"title": title, "label_config": label_config, **fields}
        return int(_object(self.session.send("POST", "/api/projects/", json=body))["id"])

    def update_project(self, project: int, **fields: Any) -> None:
        """Change fields of a project, its `label_config` for example."""
        self.session.send("PATCH", f"/api/projects/{project}/", json=fields)

    def delete_project(self, project: int) -> bool:
        """Delete a project with its tasks; False when it was gone already."""
        return self._delete(f"/api/projects/{project}/")

    # ML backends and webhooks

    def backends(self, project: int) -> list[dict[str, Any]]:
        """Return the project's ML backends (Label Studio calls /health and /setup of each before it answers)."""
        return _objects(self.session.get("/api/ml/", params={"project": project}, timeout=LONG_TIMEOUT))

    def connect_backend(
        self, project: int, url: str, title: str, auth: tuple[str, str] | None = None, **fields: Any
    ) -> int:
        """Connect an ML backend and return its id; `auth` is the user and password that it asks for.

        Label Studio 1.23 makes a webhook to `url`/webhook on its own, for all events but without the password: our
        secret is added there.
        """
        body = {"project": project, "url": url, "title": title, **_basic(auth), **fields}
        created = _object(self.session.send("POST", "/api/ml/", json=body, timeout=LONG_TIMEOUT))
        if auth is not None:
            self.ensure_webhook(project, url, auth)
        return int(created["id"])

    def move_backend(self, project: int, backend_id: int, url: str, auth: tuple[str, str] | None = None) -> None:
        """Point a connected ML backend and its webhook to another address."""
        moved = next((one for one in self.backends(project) if one["id"] == backend_id), None)
        if moved is None:
            raise StudioError(f"Project {project} has no ML backend {backend_id}.")
        body = {"project": project, "url": url, **_basic(auth)}
        self.session.send("PATCH", f"/api/ml/{backend_id}", json=body, timeout=LONG_TIMEOUT)
        if _webhook_url(moved["url"]) != _webhook_url(url):
            self.remove_webhooks(project, [moved["url"]])
        self.ensure_webhook(project, url, auth)

    def ensure_webhook(self, project: int, url: str, auth: tuple[str, str] | None = None) -> bool:
        """Have the project's webhook to the backend at `url`, with our secret if it has a password; True if made now.

        Label Studio 1.23 answers 400 for a host without a dot (but for localhost), 403 for a reserved network, and 500
        for a name that it cannot resolve.
        """
        address, secret = _webhook_url(url), {SECRET_HEADER: secret_of(auth)} if auth else {}
        known = [one for one in self.webhooks(project) if one["url"] == address]
        for webhook in known:
            merged = {**(webhook.get("headers") or {}), **secret}
            if merged != (webhook.get("headers") or {}):
                self.session.send("PATCH", f"/api/webhooks/{webhook['id']}/", json={"headers": merged})
        if not known:
            body = {"project": project, "url": address, "send_payload": True, "send_for_all_actions": True}
            self.session.send("POST", "/api/webhooks/", json={**body, "headers": secret})
        return not known

    def remove_webhooks(self, project: int, urls: Iterable[str]) -> int:
        """Remove the project's webhooks to the backend at these addresses; how many there were."""
        addresses = {_webhook_url(url) for url in urls}
        known = [one for one in self.webhooks(project) if one["url"] in addresses]
        return sum(self._delete(f"/api/webhooks/{one['id']}/") for one in known)

    def disconnect_backend(self, backend_id: int) -> bool:
        """Disconnect an ML backend; its webhook stays behind (Label Studio 1.23). False when it was gone already."""
        return self._delete(f"/api/ml/{backend_id}")

    def webhooks(self, project: int) -> list[dict[str, Any]]:
        """Return the project's webhooks: `id`, `url`, `headers`, `actions`, ..."""
        return _objects(self.session.get("/api/webhooks/", params={"project": project}))

    def _or_none(self, path: str, **options: Any) -> dict[str, Any] | None:
        answer = self.session.respond("GET", path, **options)
        if answer.status_code == 404 and "json" in answer.headers.get("Content-Type", ""):
            return None  # said by Label Studio itself, not by a proxy that has lost it
        return _object(self.session.decoded(answer))

    def _delete(self, path: str) -> bool:
        answer = self.session.respond("DELETE", path)
        if answer.status_code == 404:
            return False
        self.session.decoded(answer)
        return True


def secret_of(auth: tuple[str, str]) -> str:
    """What our webhooks carry instead of the password: known to whoever has that, and telling nothing about it."""
    return hmac.new(auth[1].encode(), f"webhook of {auth[0]}".encode(), hashlib.sha256).hexdigest()


def _basic(auth: tuple[str, str] | None) -> dict[str, str]:
    if auth is None:
        return {}
    return {"auth_method": "BASIC_AUTH", "basic_auth_user": auth[0], "basic_auth_pass": auth[1]}


def _webhook_url(backend_url: str) -> str:
    return backend_url.rstrip("/") + "/webhook"


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise StudioError(f"Label Studio answered with {type(value).__name__} where an object was expected.")
    return value


def _objects(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise StudioError(f"Label Studio answered with {type(value).__name__} where a list was expected.")
    return value
