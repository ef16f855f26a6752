"""The courier: the worker without torch. Delivers predictions, reads webhooks, finds what was missed or lost.

One courier is at work at a time; others stand by and take over when it is silent for `LOCK_SECONDS`.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
import uuid
from collections.abc import Callable, Collection

from redis import Redis
from redis.exceptions import RedisError

from backend import store, trouble
from backend.connections import Connections, compare_soon
from backend.convergence import Convergence
from backend.converger import POLL_SECONDS, Converger
from backend.corrections.corrector import Corrector
from backend.predict import Predictor
from backend.pusher import Pusher
from backend.queue.cancel import cancel_outdated, current_version, open_jobs
from backend.queue.job import task_of
from backend.queue.sweep import renew_outdated, sweep
from backend.reconcile import reconciler_of
from backend.settings import Settings
from backend.studio.client import Studio, StudioError, StudioUnavailable
from backend.webhooks import Webhooks

log = logging.getLogger(__name__)

LOCK = store.COURIER
LOCK_SECONDS = 15
"""Two couriers at once do no harm (each leases what it pushes), a dead one that holds everybody up does."""
SWEEP_SECONDS = 15
IDLE_SECONDS = 0.2

# -> 0 when another courier is at work, 1 when it still is this one, 2 when it is this one from now on.
_REFRESH = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) and 2 or 0
"""


class Courier:
    """Everything between Redis and Label Studio that needs no image."""

    def __init__(self, settings: Settings, studio: Studio | None = None):
        self.settings = settings
        self.redis: Redis = store.connect(settings.redis_url, patient=True)
        self.studio = studio or Studio(settings.label_studio_url, settings.label_studio_api_key.get_secret_value())
        self.reconciler = reconciler_of(self.redis, settings, self.studio)
        self.jobs, self.delivery = self.reconciler.jobs, self.reconciler.delivery
        self.pusher = Pusher(self.reconciler)
        self.connections = Connections(self.redis, settings, self.studio)
        self.corrector = Corrector(self.redis, settings, self.studio)
        self.webhooks = Webhooks(
            self.redis,
            settings,
            Predictor(settings),
            self.corrector.hear,
            self.cancel_outdated,
            self.cancel_deleted,
            self.is_connected,
        )
        convergence = Convergence(self.redis, settings, self.studio, self.connections, self.reconciler)
        self.converger = Converger(convergence, self.redis, settings.car_converge_seconds, lambda: self.is_at_work)
        self.name = uuid.uuid4().hex
        self.is_at_work = False
        self._refresh = self.redis.register_script(_REFRESH)
        self._swept = 0.0
        self._renewed = False

    def round(self) -> bool:
        """Do what is due, once; True when there was something (so that more may be)."""
        taken = self._refresh([LOCK], [self.name, LOCK_SECONDS])
        self.is_at_work = bool(taken)
        if not taken:
            return False
        if taken == 2:  # at the start, but also when Redis was emptied, or away for longer than the lock lasts
            self.converger.compare_all()
        if not self._renewed:
            renew_outdated(self.jobs)
            self._renewed = True
        busy = self.webhooks.read_one()
        was_away = self.pusher.is_studio_away
        busy = self.deliver() > 0 or busy
        if was_away and not self.pusher.is_studio_away:
            self.converger.compare_all()
        busy = self.corrector.round() or busy
        if time.monotonic() - self._swept > SWEEP_SECONDS:
            self._swept = time.monotonic()
            sweep(self.jobs)
        return busy

    def deliver(self) -> int:
        """Push what is due; the number of predictions looked after."""
        return self.pusher.push_due()

    def retire(self) -> None:
        """Let a standby take over at once."""
        self.is_at_work = False
        self.converger.stop()
        if self.redis.get(LOCK) == self.name.encode():
            self.redis.delete(LOCK)

    def is_connected(self, project: int) -> bool:
        """Whether a project whose webhook was heard is connected; if not, the webhook was left behind: remove it.

        While Label Studio is away, what was known last counts; a project that is not known is looked at later. Where
        Label Studio refuses us the answer is yes: the jobs then fail with the reason, which is seen.
        """
        try:
            if self.connections.is_connected(project):
                return True
            self.connections.remove_webhooks(project, self.connections.own_addresses())
        except StudioUnavailable as error:
            log.warning("it is not known whether project %s is still connected: %s", project, error)
            if self.connections.of(project) is not None:
                return True
            compare_soon(self.redis, project, POLL_SECONDS)
        except StudioError as error:
            log.error("it is not known whether project %s is still connected: %s", project, error)
            return True
        return False

    def cancel_outdated(self, project: int) -> bool:
        """Cancel what an older labeling config asked for; False when Label Studio is away, so that it cannot be told.

        The config is read from Label Studio, never from the event: a late or forged one does no harm.
        """
        try:
            found = self.studio.project(project)
        except StudioUnavailable:
            return False
        except StudioError as error:
            log.error("project %s may have changed, but cannot be read: %s", project, error)
            return True
        version = current_version(found["label_config"], self.settings) if found else None
        cancel_outdated(self.jobs, project, version)
        return True

    def cancel_deleted(self, project: int, tasks: Collection[int]) -> bool:
        """Cancel the jobs of tasks that were deleted; False when Label Studio is away, so that it cannot be told.

        Label Studio is asked what these tasks are now: an event may be forged, and ids may be in use again.
        """
        try:
            self.reconciler.drop_misfits(
                project, [job_id for job_id in open_jobs(self.jobs, project) if task_of(job_id)[1] in tasks]
            )
        except StudioUnavailable:
            return False
        except StudioError as error:
            log.error("tasks of project %s may be deleted, but it cannot be read: %s", project, error)
        return True


def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; a Redis that is away is waited for."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    courier = Courier(settings)
    log.info("courier of %s is ready", settings.label_studio_url)
    courier.converger.start()
    until(stop, courier.round, courier.converger.compare_all)
    try:
        courier.retire()
    except RedisError:
        log.warning("Redis is away; a standby takes over within %d seconds", LOCK_SECONDS)


def until(stop: threading.Event, once: Callable[[], bool], after_outage: Callable[[], None] = lambda: None) -> None:
    """Call `once` again and again until `stop`; pause when it had nothing to do, a second while Redis fails it."""
    told: str | None = None  # what the log has of the trouble that lasts
    while not stop.is_set():
        try:
            pause = 0.0 if once() else IDLE_SECONDS
        except RedisError as error:
            pause = trouble.AGAIN_SECONDS
            if told != trouble.refusal(error):
                log.error("%s Waiting for it; tried again every second.", trouble.explain(error))
            told = trouble.refusal(error)
            after_outage()
        else:
            if told is not None:
                log.warning("Redis takes writes again")
            told = None
        stop.wait(pause)
