"""The courier's second thread: decides when which project is compared with what it should hold.

It has a thread of its own since Label Studio may take its time over a comparison, and predictions are delivered
meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import cast

from redis import Redis
from redis.exceptions import RedisError

from backend import store
from backend.connections import ALL
from backend.convergence import Convergence
from backend.store import text
from backend.studio.client import StudioError, StudioUnavailable

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
AWAY_SECONDS = 5.0
"""Pause while Label Studio does not answer."""
PART_SECONDS = 5.0
"""Least pause before a project that is too large for one comparison is gone on with, else as long as that took."""


class Converger(threading.Thread):
    """Compares all projects after a start or an outage, connected ones every so often, and new ones at once."""

    def __init__(self, convergence: Convergence, redis: Redis, every: float, is_at_work: Callable[[], bool]):
        """`every` is in seconds, 0 for never; `is_at_work` says whether this courier is the one at work."""
        super().__init__(name="converger", daemon=True)
        self.convergence = convergence
        self.redis = redis
        self.every = every
        self.is_at_work = is_at_work
        self._stop_asked = threading.Event()
        self._all_wanted = True
        self._is_studio_away = False
        self._todo: list[int] = []
        self._not_before: dict[int, float] = {}
        self._next = 0.0

    def compare_all(self) -> None:
        """There was an outage: compare all projects as soon as possible."""
        self._all_wanted = True

    def stop(self) -> None:
        """End after the project that is being compared."""
        self._stop_asked.set()

    def run(self) -> None:
        """Compare what is due, until `stop`."""
        pause = POLL_SECONDS
        while not self._stop_asked.wait(pause):
            pause = self.round()

    def round(self) -> float:
        """Compare what is due; seconds until the next round."""
        try:
            while self.is_at_work() and not self._stop_asked.is_set() and self._step():
                pass
        except StudioUnavailable as error:
            if not self._is_studio_away:  # said once for each outage
                log.warning("projects are compared when Label Studio answers: %s", error)
            self._is_studio_away = True
            self.compare_all()
            return AWAY_SECONDS
        except RedisError as error:
            log.warning("projects are compared when Redis answers: %s", error)
            self.compare_all()
        except Exception:
            log.exception("a comparison of projects failed; it is tried again")
            return AWAY_SECONDS
        else:
            self._is_studio_away = False
        return POLL_SECONDS

    def _step(self) -> bool:
        """Compare one project; False when none is due."""
        due = self._take_due()
        if due is not None:
            self._compare(due)
            return True
        now = time.monotonic()
        if self.every and (self._all_wanted or now >= self._next):
            is_all, self._all_wanted = self._all_wanted, False
            self._next = now + self.every
            try:
                self._todo = self.convergence.projects(all_of_them=is_all)
            except StudioError:
                self._all_wanted = is_all
                raise
        project = next((one for one in self._todo if self._not_before.get(one, 0.0) <= now), None)
        if project is None:
            return False
        self._compare(project)
        return True

    def _compare(self, project: int) -> None:
        self._not_before.pop(project, None)
        begun = time.monotonic()
        try:
            compared = self.convergence.converge(project)
        except StudioUnavailable:
            raise
        except StudioError as error:
            log.error("project %s is not compared with what it should hold: %s", project, error)
        else:
            if not compared.is_complete:
                now = time.monotonic()
                self._not_before[project] = now + max(PART_SECONDS, now - begun)
                if project not in self._todo:
                    self._todo.append(project)
                return
        self._todo = [one for one in self._todo if one != project]

    def _take_due(self) -> int | None:
        """The next project that something has asked to be compared; None when there is none."""
        due = cast(list[bytes], self.redis.zrangebyscore(store.CONVERGE_DUE, 0, time.time(), start=0, num=1))
        if not due:
            return None
        self.redis.zrem(store.CONVERGE_DUE, due[0])
        if text(due[0]) == ALL:
            self.compare_all()
            return self._take_due()
        return int(due[0])
