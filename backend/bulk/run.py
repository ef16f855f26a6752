"""A whole project, pre-labelled: walks its tasks, asks for a few at a time, looks after each until Label Studio has it.

Nothing is kept here that cannot be lost. Which tasks are left is asked of Label Studio (those without a prediction of
the present version), what became of a task stands in its ticket, and asking twice for a job makes one: so a run may be
stopped or killed at any time, and started again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rq.worker_registration import get_keys

from backend import store
from backend.delivery import Delivery
from backend.labeling.parsing import ConfigError, LabelingConfig, parse_config
from backend.queue.job import Job, State, job_of
from backend.queue.jobs import Jobs
from backend.queue.queues import ALL, is_paused, paused
from backend.settings import Settings
from backend.store import text
from backend.studio.client import Studio, StudioUnavailable, TaskFilter

WINDOW = 500
"""Tasks that one run has asked for and not yet seen finished, at most: enough for many workers, nothing for Redis."""
NO_IMAGE = "the task's data has no image address, or no labels where the labeling config wants them there"


class BulkError(Exception):
    """This project cannot be pre-labelled; the message says why."""


@dataclass(frozen=True)
class Plan:
    """What a run is about: `total` tasks, of which `todo` have no prediction of this version yet."""

    project: int
    config: LabelingConfig
    version: str
    total: int
    todo: int
    which: TaskFilter


def read_config(studio: Studio, project: int, settings: Settings) -> LabelingConfig:
    """The labeling config of a project, as it is now.

    Raises:
        BulkError: there is no such project, or it is not to be pre-labelled.
    """
    found = studio.project(project)
    if found is None:
        raise BulkError(f"Label Studio at {studio.url} has no project {project} that this token may see.")
    try:
        config = parse_config(found["label_config"], settings.car_preset)
    except ConfigError as error:
        raise BulkError(f"Project {project} cannot be pre-labelled: {error}") from None
    if config.skip:
        raise BulkError(f'Project {project} says model_skip="true": take it out to have it pre-labelled.')
    return config


def make_plan(studio: Studio, project: int, config: LabelingConfig, version: str, unlabelled: bool = False) -> Plan:
    """Count what is to be done; tasks that people have annotated stay out when only `unlabelled` ones are wanted."""
    which = TaskFilter(lacking=version, unlabelled=unlabelled)
    total = studio.count_tasks(project, TaskFilter(unlabelled=unlabelled))
    return Plan(project, config, version, total, studio.count_tasks(project, which), which)


@dataclass
class Progress:
    """What became of the tasks of this run, each counted once.

    `failed` counts reasons. `queued`, `running` and `delivering` are what the window holds just now.
    """

    done: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    cancelled: int = 0
    queued: int = 0
    running: int = 0
    delivering: int = 0

    @property
    def settled(self) -> int:
        """Tasks that need no more looking after."""
        return self.done + self.failed.total() + self.cancelled


class Bulk:
    """One run over a project. Call `step` until it is over; any exception of it may be waited out and repeated."""

    def __init__(self, studio: Studio, jobs: Jobs, plan: Plan, window: int = WINDOW):
        self.studio = studio
        self.jobs = jobs
        self.plan = plan
        self.window = window
        self.progress = Progress()
        self.walked = False
        """Whether all tasks are asked for."""
        self.outdated = False
        """Whether the labeling config was changed meanwhile; nothing more is asked for then."""
        self._delivery = Delivery(jobs.redis, jobs, jobs.settings.car_verify_seconds)
        self._after = 0
        self._ahead: list[Mapping[str, Any]] = []
        self._open: set[str] = set()

    def step(self) -> bool:
        """See what has become of what was asked for, then ask for what there is room for; False when all is over.

        Raises:
            StudioUnavailable, StudioError, RedisError: nothing is lost by it.
        """
        try:
            self._look()
            while not (self.walked or self._stopped()) and len(self._open) < self.window and self._ask():
                pass
        except StudioUnavailable:
            self._look()  # what workers do goes on without Label Studio
            raise
        return bool(self._open) or not (self.walked or self._stopped())

    @property
    def waiting(self) -> int:
        """Tasks that are asked for and not finished, or read and not asked for."""
        return len(self._open) + len(self._ahead)

    def _stopped(self) -> bool:
        return self.outdated or self.progress.cancelled > 0

    def _ask(self) -> bool:
        """Ask for some more tasks; False when the queue is full."""
        if not self._ahead and not self._next_page():
            return True
        room = self.window - len(self._open)
        asked, self._ahead = self._ahead[:room], self._ahead[room:]
        try:
            refused = self._request(asked)
        except BaseException:
            self._ahead = [*asked, *self._ahead]
            raise
        self._ahead = [*refused, *self._ahead]
        return not refused

    def _next_page(self) -> bool:
        """Read the next tasks; False when there are none, or they are not to be asked for any more."""
        now = read_config(self.studio, self.plan.project, self.jobs.settings)
        self.outdated = now.version(self.jobs.settings.car_weights) != self.plan.version
        if self.outdated:
            return False
        self._ahead = list(self.studio.tasks_beyond(self.plan.project, self._after, self.plan.which))
        self.walked = not self._ahead
        if self._ahead:
            self._after = int(self._ahead[-1]["id"])
        return bool(self._ahead)

    def _request(self, tasks: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Ask for tasks that Label Studio has no prediction of; those for which there was no room."""
        plan, refused, without = self.plan, [], 0
        jobs = [job_of(task, plan.project, plan.config, plan.version) for task in tasks]
        states = iter(self.jobs.request_many([job for job in jobs if job], store.BATCH))
        for task, job in zip(tasks, jobs, strict=True):
            state = next(states) if job else None
            if job is None:
                without += 1
            elif state is State.REFUSED:
                refused.append(task)
            else:
                self._take(job, state)
        if without:  # counted last: should Redis go away before, all of these tasks are asked for again
            self.progress.failed[NO_IMAGE] += without
        return refused

    def _take(self, job: Job, state: State | None) -> None:
        job_id = self.jobs.id_of(job)
        if state is State.DONE:  # kept from before, but Label Studio has it not (any more)
            self._delivery.deliver_again(job_id)
        self._open.add(job_id)

    def _look(self) -> None:
        """Count what is finished, and what waits where."""
        ids = sorted(self._open)
        with self.jobs.redis.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hmget(store.ticket_key(job_id), "state", "delivered", "error", "outdated")
                pipe.zscore(store.OUTBOX, job_id)
            answers = pipe.execute()
        waiting: Counter[str] = Counter()
        for job_id, (state, delivered, error, outdated), due in zip(ids, answers[::2], answers[1::2], strict=True):
            where = "gone" if state is None else text(state)
            if where == State.DONE and outdated is not None:
                where = "not delivered"
            if where == State.DONE and delivered is None and due is not None:
                where = "delivering"
            if where in (State.QUEUED, State.RUNNING, "delivering"):
                waiting[where] += 1
                continue
            self._open.remove(job_id)
            if where == State.DONE and error is None:
                self.progress.done += 1
            elif where in (State.DONE, State.FAILED):  # done with an error: some of its images are missing
                self.progress.failed[text(error or b"for an unknown reason")] += 1
            else:
                self.progress.cancelled += 1
        self.progress.queued, self.progress.running = waiting[State.QUEUED], waiting[State.RUNNING]
        self.progress.delivering = waiting["delivering"]


def workers(jobs: Jobs) -> int:
    """How many workers are alive."""
    return len(get_keys(connection=jobs.redis))


def hindrance(jobs: Jobs, project: int) -> str:
    """Why a project's jobs do not get on just now and what to do, "" when there is no reason."""
    if is_paused(jobs.redis, str(project)):
        option = "" if ALL in paused(jobs.redis) else f" --project {project}"
        return f"paused: nothing is begun until `python -m backend resume{option}`"
    if not workers(jobs):
        return "no worker is alive: start `python -m backend worker`"
    if not jobs.redis.exists("car:courier"):
        return "no courier is at work, nothing is delivered: start `python -m backend courier`"
    return ""
