"""What Label Studio tells us by itself: kept by the web process in one write, read by the courier.

Label Studio 1.23 waits one second for a webhook's answer, never repeats it, and sends no password with it. So the body
is stored as it came; and where a password is set, our own webhooks carry a secret header (`backend.connections`).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

from redis import Redis

from backend import store
from backend.labeling.parsing import ConfigError, parse_config
from backend.predict import PROJECT_UPDATED, Predictor
from backend.queue.jobs import State
from backend.settings import Settings

log = logging.getLogger(__name__)

TASKS_CREATED = "TASKS_CREATED"
TASKS_DELETED = "TASKS_DELETED"
"""Label Studio's names for the webhooks about tasks."""
FULL_SECONDS = 5.0
"""Pause before an import is tried again for which there was no room."""


class Webhooks:
    """The courier's side."""

    def __init__(
        self,
        redis: Redis,
        settings: Settings,
        predictor: Predictor,
        hear: Callable[[Mapping[str, Any]], None] = lambda event: None,
        changed: Callable[[int], bool] = lambda project: True,
        deleted: Callable[[int, Collection[int]], bool] = lambda project, tasks: True,
        is_connected: Callable[[int], bool] = lambda project: True,
    ):
        """`hear` is told of every event, whatever becomes of it here; `changed` of projects that may have changed.

        `deleted` is told of a project's tasks that may be gone. Both answer whether that is dealt with; if not, they
        are told again. Imports of a project that is not connected (any more) are left alone.
        """
        self.redis = redis
        self.settings = settings
        self.predictor = predictor
        self.hear = hear
        self.changed = changed
        self.deleted = deleted
        self.is_connected = is_connected
        self._full_until = 0.0

    def read_one(self) -> bool:
        """Turn the oldest stored webhook into jobs; False when there is none.

        The body stays in `store.READING` until all its tasks are asked for: a courier that dies in the middle starts
        it again, and so it is while too many jobs are open. Asking twice for a job makes one.
        """
        if time.monotonic() < self._full_until:
            return False
        body = self.redis.lindex(store.READING, -1) or self.redis.lmove(store.INBOX, store.READING, "RIGHT", "LEFT")
        if body is None:
            return False
        try:
            if not self._expand(json.loads(body)):
                self._full_until = time.monotonic() + FULL_SECONDS
                return False
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            log.error("a webhook is left out, it is not as Label Studio 1.23 sends them: %s", error)
        self.redis.lrem(store.READING, -1, cast(str, body))
        return True

    def _expand(self, event: dict[str, Any]) -> bool:
        """Ask for the tasks of an import; False when there was no room for all of them (or nobody to ask)."""
        self.hear(event)
        if event.get("action") == PROJECT_UPDATED:
            return self.changed(int(event["project"]["id"]))
        if event.get("action") == TASKS_DELETED and "project" in event:
            return self.deleted(int(event["project"]["id"]), {int(task["id"]) for task in event["tasks"]})
        if event.get("action") != TASKS_CREATED:
            return True
        project = event["project"]
        try:
            config = parse_config(project["label_config"], self.settings.car_preset)
        except ConfigError as error:
            log.error("project %s cannot be pre-labelled: %s", project["id"], error)
            return True
        if config.skip or not self.is_connected(int(project["id"])):
            return True
        version = config.version(self.settings.car_weights)
        asked = self.predictor.request(event["tasks"], int(project["id"]), config, version, store.BATCH)
        refused = sum(one is not None and one[1] is State.REFUSED for one in asked)
        log.info("project %s: %d imported tasks, %d of them wait for room", project["id"], len(asked), refused)
        return not refused
