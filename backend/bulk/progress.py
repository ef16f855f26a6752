"""The progress bar of a bulk run: tasks, rate, time left, and what hinders."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import IO, Any

from redis.exceptions import RedisError
from tqdm import tqdm

from backend.bulk.run import Bulk, Plan, Progress, hindrance
from backend.studio.client import StudioUnavailable

POLL_SECONDS = 0.5
LOG_SECONDS = 30.0
"""Between two lines where nobody looks on, because they go into a file."""


class ProgressBar:
    """tqdm over the tasks of a plan. What was there before counts as done, but not for the rate."""

    def __init__(self, plan: Plan, file: IO[str] | None = None):
        """Draws on standard error, or into `file`."""
        target = file or sys.stderr
        self._every = 0.0 if target.isatty() else LOG_SECONDS
        self._shown = time.monotonic()
        self._before = plan.total - plan.todo
        self._notice = ""
        # smoothing=0: the rate is the mean since the start. Masks come in batches; anything else would jump about.
        self.bar = tqdm(
            desc=f"project {plan.project}",
            total=plan.total,
            initial=self._before,
            unit="task",
            smoothing=0,
            ncols=_width(target),
            file=target,
        )

    def show(self, progress: Progress, notice: str = "", seen: int | None = None) -> None:
        """Draw anew. `notice` is printed when it changes; `seen` is this run's number of tasks, once it is certain."""
        if notice and notice != self._notice:
            self.bar.write(notice, file=self.bar.fp)
        self._notice = notice
        if seen is not None:
            self.bar.total = self._before + seen
        self.bar.n = self._before + progress.settled
        counts = {"failed": progress.failed.total(), "queued": progress.queued, "running": progress.running}
        self.bar.set_postfix(counts | {"delivering": progress.delivering}, refresh=False)
        if time.monotonic() - self._shown >= self._every:
            self._shown = time.monotonic()
            self.bar.refresh()

    def close(self) -> None:
        """Leave the last state on the screen."""
        self.bar.refresh()
        self.bar.close()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


def _width(file: IO[str]) -> int:
    """Columns to draw in; some terminals (`docker exec`) say 0, and files nothing."""
    try:
        columns = os.get_terminal_size(file.fileno()).columns
    except OSError:
        columns = 0
    return min(columns or 120, 140)


def watch(bulk: Bulk, bar: ProgressBar, stop: threading.Event) -> bool:
    """Run until all is over, or until `stop`; Redis and Label Studio are waited for. True when all is over.

    Raises:
        StudioError, BulkError: going on makes no sense; what was asked for is done all the same.
    """
    while not stop.is_set():
        seen = None
        try:
            more, notice = bulk.step(), hindrance(bulk.jobs, bulk.plan.project)
            seen = bulk.progress.settled + bulk.waiting if bulk.walked else None
        except StudioUnavailable as error:
            more, notice = True, f"Label Studio does not answer and is waited for: {error}"
        except RedisError as error:
            more, notice = True, f"Redis at REDIS_URL does not answer and is waited for: {error}"
        bar.show(bulk.progress, notice if more else "", seen)
        if not more:
            return True
        stop.wait(POLL_SECONDS)
    return False
