"""ML backends and webhooks of the stub's projects: what Label Studio 1.23 asks and tells a backend."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.load.queries import Refused
from tests.load.records import TIME, Project, now

WEBHOOK_TIMEOUT = 1.0
HEALTH_TIMEOUT = 1.0
SETUP_TIMEOUT = 3.0
"""Seconds, as in Label Studio 1.23."""

Row = dict[str, Any]


class Connections:
    """The ML backends and webhooks of all projects, as rows of the API. Calls them over HTTP; thread-safe."""

    def __init__(self, hostname: str, token: str):
        """What /setup tells of this Label Studio: its address, and its owner's token."""
        self.hostname = hostname
        self.token = token
        self.backends: dict[int, Row] = {}
        self.webhooks: dict[int, Row] = {}
        self._last = 0
        self._lock = threading.Lock()

    def _add(self, rows: dict[int, Row], row: Row) -> Row:
        with self._lock:
            self._last += 1
            time = now().strftime(TIME)
            rows[self._last] = {"id": self._last, **row, "created_at": time, "updated_at": time}
            return rows[self._last]

    def forget(self, project: int) -> None:
        """Drop what belongs to a project that was deleted."""
        for rows in (self.backends, self.webhooks):
            for row in _of(rows, project):
                rows.pop(row["id"], None)

    # ML backends

    def connect(self, project: Project, url: str, title: str = "CaR") -> Row:
        """Connect an ML backend, and make its webhook if the address is one that webhooks accept.

        Raises Refused (400) when the backend does not answer, as a form in Label Studio says so.
        """
        row: Row = {"url": url, "title": title, "project": project.number, "auth_method": "NONE"}
        if self._ask(row, project)["state"] != "CO":
            raise Refused(400, {"non_field_errors": [f"Can't connect to ML backend {url}."]})
        row = self._add(self.backends, row)
        webhook = _webhook_of(url)
        if is_url(webhook) and all(one["url"] != webhook for one in self.webhooks_of(project.number)):
            self.add_webhook({"project": project.number, "url": webhook})
        project.model_version = project.model_version or title
        return self._ask(row, project)

    def backends_of(self, project: Project) -> list[Row]:
        """A project's ML backends, each asked for its health and set up first."""
        return [self._ask(row, project) for row in _of(self.backends, project.number)]

    def disconnect(self, number: int) -> None:
        """Disconnect an ML backend; its webhook stays behind."""
        if self.backends.pop(number, None) is None:
            raise Refused(404, "No MLBackend matches the given query.")

    def _ask(self, row: Row, project: Project) -> Row:
        """Bring a backend's state and model version up to date."""
        setup = {"project": project.uid, "schema": project.config, "hostname": self.hostname}
        setup |= {"access_token": self.token, "extra_params": None}
        row["state"] = "DI"
        try:
            requests.get(f"{row['url']}/health", timeout=HEALTH_TIMEOUT).raise_for_status()
            row["state"] = "ER"
            answer = requests.post(f"{row['url']}/setup", json=setup, timeout=SETUP_TIMEOUT)
            answer.raise_for_status()
            row.update(state="CO", model_version=answer.json()["model_version"], error_message=None)
        except (requests.RequestException, ValueError, KeyError) as error:
            row["error_message"] = str(error)
        row.setdefault("model_version", "")
        return row

    # Webhooks

    def webhooks_of(self, project: int) -> list[Row]:
        return _of(self.webhooks, project)

    def add_webhook(self, fields: Mapping[str, Any]) -> Row:
        """Raises Refused (400) for an address that Django's URLField does not accept."""
        _check_url(fields)
        usual = {"send_payload": True, "send_for_all_actions": True, "headers": {}, "is_active": True, "actions": []}
        return self._add(self.webhooks, {**usual, **fields})

    def change_webhook(self, number: int, fields: Mapping[str, Any]) -> Row:
        _check_url(fields)
        row = self._webhook(number)
        row.update(fields, updated_at=now().strftime(TIME))
        return row

    def delete_webhook(self, number: int) -> None:
        self._webhook(number)
        del self.webhooks[number]

    def _webhook(self, number: int) -> Row:
        if number not in self.webhooks:
            raise Refused(404, "No Webhook matches the given query.")
        return self.webhooks[number]

    def tell(self, project: int, action: str, payload: Mapping[str, Any]) -> list[bool]:
        """Send a webhook to all that want it, once; for each whether it was accepted."""
        wanted = [
            row
            for row in self.webhooks_of(project)
            if row["is_active"] and (row["send_for_all_actions"] or action in row["actions"])
        ]
        return [_post(row, {"action": action, **(payload if row["send_payload"] else {})}) for row in wanted]


def _of(rows: Mapping[int, Row], project: int) -> list[Row]:
    return [row for row in list(rows.values()) if row["project"] == project]


def _post(webhook: Row, body: Mapping[str, Any]) -> bool:
    try:
        answer = requests.post(webhook["url"], json=body, headers=webhook["headers"], timeout=WEBHOOK_TIMEOUT)
    except requests.RequestException:
        return False
    return answer.status_code == 201


def _webhook_of(backend_url: str) -> str:
    return backend_url.rstrip("/") + "/webhook"


def is_url(address: str) -> bool:
    """Whether Django's URLField accepts it: a host without a dot is no host for it, but for localhost."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    return parts.scheme in ("http", "https") and (host == "localhost" or "." in host or ":" in host)


def _check_url(fields: Mapping[str, Any]) -> None:
    if "url" in fields and not is_url(fields["url"]):
        raise Refused(400, {"url": ["Enter a valid URL."]})
