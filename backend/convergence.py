"""Compare projects with what they should hold, and ask for what they lack.

A webhook may be missed, Redis may lose its memory, a task's image may be replaced. So the courier looks at what Label
Studio holds: after its start, after each outage, and every `CAR_CONVERGE_SECONDS`. Of each project that is connected

* tasks created since the model was connected that have no prediction of the present version are asked for (older ones
  are left to `prelabel`), but for those of a queue that `cancel` has emptied;
* tasks that changed since the last comparison and hold predictions of ours are checked for the images these were made
  from. The *watermark*, up to which that is done, is a time of Label Studio's own clock.

One comparison reads a bounded number of tasks; the next one goes on from there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from redis import Redis

from backend import store
from backend.connections import Connection, Connections
from backend.projects import note_project
from backend.queue.cancel import cancelled_at, open_jobs
from backend.queue.job import job_of, project_of
from backend.queue.queues import is_paused
from backend.reconcile import Reconciler, Served, served
from backend.settings import Settings
from backend.studio.client import Studio, StudioError, TaskFilter

log = logging.getLogger(__name__)

PAGES_AT_ONCE = 20
"""Pages of tasks that one comparison of a project reads at most to find those that lack a prediction, or changed."""
JOBS_AT_ONCE = 500
"""Open and failed jobs of a project whose tasks one comparison checks at most."""
MARGIN = timedelta(seconds=10)
"""A change may become visible that much later than one that Label Studio has dated after it."""


@dataclass(frozen=True)
class Watermark:
    """Up to which change (`updated_at`, as Label Studio writes it) the tasks of a project were checked.

    is_settled: it was still the newest change when it was looked at again, so `MARGIN` need not be read once more.
    """

    moment: str
    is_settled: bool = False

    @property
    def after(self) -> str:
        """Tasks that changed after this are to be read."""
        return self.moment if self.is_settled else (datetime.fromisoformat(self.moment) - MARGIN).isoformat()


@dataclass(frozen=True)
class Compared:
    """What one comparison of a project came to: tasks read, tasks asked for, and whether there are no more to read."""

    read: int = 0
    asked: int = 0
    is_complete: bool = True


class Convergence:
    """Compares one project after the other. Keeps only where it stopped in a project that is too large for one go."""

    def __init__(
        self, redis: Redis, settings: Settings, studio: Studio, connections: Connections, reconciler: Reconciler
    ):
        self.redis = redis
        self.settings = settings
        self.studio = studio
        self.connections = connections
        self.reconciler = reconciler
        self.jobs = reconciler.jobs
        self._lacking_after: dict[int, int] = {}
        self._walks: dict[int, tuple[int, str]] = {}
        """Project -> the last task that was checked for changes, and the newest change when that was begun."""

    def projects(self, *, all_of_them: bool) -> list[int]:
        """Those to compare: connected ones and those with jobs; after an outage all that Label Studio has."""
        known = set(self.connections.known())
        known |= {int(project_of(job_id)) for job_id in (*self.jobs.open_ids(), *self.jobs.failed_ids())}
        if all_of_them:
            known |= {int(one["id"]) for one in self.studio.projects()}
        return sorted(known - {0})

    def converge(self, project: int) -> Compared:
        """Compare one project. Raises StudioError and RedisError; it may be repeated."""
        try:
            return self._compare(project)
        except StudioError as error:
            if error.status != 404 or self.studio.project(project) is not None:
                raise
            return self._compare(project)  # it was deleted meanwhile

    def _compare(self, project: int) -> Compared:
        found = self.studio.project(project)
        if found is None:
            self.reconciler.project_is_gone(project)
        elif "created_at" in found:
            note_project(self.redis, project, str(found["created_at"]))
        connection = self.connections.look(project)
        if found is None:
            return Compared()
        self._drop_misfits(project)
        if connection is None:
            return Compared()
        self.connections.ensure_webhook(connection)
        wanted = served(project, found, self.settings)
        if wanted is None or not self.settings.car_converge_seconds or is_paused(self.redis, str(project)):
            return Compared()
        lacking, changed = self._ask_for_lacking(wanted, connection), self._show_changed(wanted, connection)
        if asked := lacking.asked + changed.asked:
            log.info("project %s: %d tasks lack their predictions and are asked for", project, asked)
        return Compared(lacking.read + changed.read, asked, lacking.is_complete and changed.is_complete)

    def _drop_misfits(self, project: int) -> None:
        ids = [*open_jobs(self.jobs, project)[:JOBS_AT_ONCE], *self.jobs.failed_ids(project)[:JOBS_AT_ONCE]]
        self.reconciler.drop_misfits(project, ids)

    def _ask_for_lacking(self, wanted: Served, connection: Connection) -> Compared:
        """Ask for tasks created since the connection (or the last `cancel`) that have no prediction of this version."""
        project = wanted.project
        since = max(connection.since, cancelled_at(self.redis, project), key=_seconds)
        which = TaskFilter(lacking=wanted.version, created_after=since)
        pages = read = asked = 0
        for page in self._pages(project, self._lacking_after.get(project, 0), which):
            found = (job_of(task, project, wanted.config, wanted.version, logging.DEBUG) for task in page)
            new, refused = self.reconciler.ask([job for job in found if job is not None])
            pages, read, asked = pages + 1, read + len(page), asked + new
            if refused:  # no room in the queue; from here again next time
                return Compared(read, asked)
            self._lacking_after[project] = int(page[-1]["id"])
        if pages == PAGES_AT_ONCE:
            return Compared(read, asked, is_complete=False)
        self._lacking_after.pop(project, None)
        return Compared(read, asked)

    def _show_changed(self, wanted: Served, connection: Connection) -> Compared:
        """Check tasks that changed since the watermark and hold predictions of ours."""
        project, pages, read, asked = wanted.project, 0, 0, 0
        mark = self._watermark(project) or Watermark(connection.since)
        after, newest = self._walks.get(project) or (0, self.studio.newest_change(project))
        if not newest or (newest == mark.moment and mark.is_settled):
            return Compared()
        for page in self._pages(project, after, TaskFilter(holding="car-", updated_after=mark.after)):
            asked += self.reconciler.check(wanted, page)
            pages, read = pages + 1, read + len(page)
            self._walks[project] = (int(page[-1]["id"]), newest)
        if pages == PAGES_AT_ONCE:
            return Compared(read, asked, is_complete=False)
        self._walks.pop(project, None)
        self._keep_watermark(project, Watermark(newest, is_settled=newest == mark.moment))
        return Compared(read, asked)

    def _pages(self, project: int, after: int, which: TaskFilter) -> Iterator[list[dict[str, Any]]]:
        """Up to `PAGES_AT_ONCE` pages of tasks that match, beyond the id `after`."""
        for _ in range(PAGES_AT_ONCE):
            page = self.studio.tasks_beyond(project, after, which)
            if not page:
                return
            after = int(page[-1]["id"])
            yield page

    def _watermark(self, project: int) -> Watermark | None:
        found = cast(bytes | None, self.redis.hget(store.WATERMARKS, str(project)))
        return Watermark(*json.loads(found)) if found else None

    def _keep_watermark(self, project: int, mark: Watermark) -> None:
        self.redis.hset(store.WATERMARKS, str(project), json.dumps([mark.moment, mark.is_settled]))


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp() if moment else 0.0
