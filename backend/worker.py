"""The GPU worker: fetch an image, segment it, keep the result. The only module of the backend that imports torch.

The weights are loaded once per process and stay on the card, so jobs run in this process (RQ's SimpleWorker); a thread
keeps the worker's and the job's heartbeat going, and the courier gives back what a dead worker leaves behind.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from functools import cache, partial
from types import FrameType
from typing import Any

from redis.exceptions import RedisError
from rq import get_current_job
from rq.job import Job as RQJob
from rq.serializers import JSONSerializer
from rq.worker.base import WorkerStatus

from backend import logs, store
from backend.corrections.records import ScoreBook
from backend.device import device_of, free_device_memory
from backend.failing import (
    PASSING,
    PERMANENT,
    UNREACHABLE,
    Stopped,
    VersionMismatch,
    is_device_error,
    kind_of,
)
from backend.images.fetcher import ImageError, fetcher_of
from backend.interactive.desk import Desk
from backend.labeling.parsing import Picture, empty_config
from backend.masks.task import Outcome, TaskMasks
from backend.patient_worker import HEARTBEAT_SECONDS, PatientWorker
from backend.pulse import pulse
from backend.queue.jobs import Job, Jobs, SegmentJob, State
from backend.queue.queues import TakingQueue
from backend.settings import Settings, load_settings
from backend.status import measures
from backend.status.reports import Reporter
from backend.studio.client import Studio, StudioError, StudioUnavailable
from backend.trouble import explain, passes, patiently
from model.memory import MemoryFileError
from model.presets import Preset, preset
from model.segmentation import Segmentation
from model.segmenter import Segmenter

log = logging.getLogger(__name__)

DEAD_AFTER_SECONDS = 60
"""A worker silent for this long is dead: its job goes to another."""
KEEP_SECONDS = 180.0
"""How long a prediction that is computed waits for a Redis that does not take it, before the image is done again."""
NOTE_SECONDS = 30.0
"""The same for what is only noted: that a job begins, or why it failed."""
DEVICE_ERRORS = 3
"""After so many errors of the GPU in a row the worker ends: a broken CUDA context only heals in a new process."""


class Engine:
    """What one worker process keeps: the connection, the fetcher, and one segmenter per preset in use."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.redis = store.connect(settings.redis_url, patient=True)
        self.jobs = Jobs(self.redis, settings)
        self.scores = ScoreBook(self.redis, settings)
        self.studio = Studio(settings.label_studio_url, settings.label_studio_api_key.get_secret_value())
        self.fetcher = fetcher_of(settings, self.studio.authorization)
        idle_version = empty_config(settings.car_preset).version(settings.car_weights)
        self.reporter = Reporter(self.redis, settings.car_preset, idle_version)
        self.seconds: dict[str, float] = {}
        """Of each stage of the last image."""
        self.device_errors = 0
        self._segmenters: dict[str, Segmenter] = {}
        self.desk = Desk(settings, self.segmenter)

    def segmenter(self, wanted: Preset) -> Segmenter:
        """The segmenter of a preset; weights are loaded at their first use, once for all presets that share them.

        Raises VersionMismatch when the memory that a config names is missing here, or another one.
        """
        own = self.settings.located(wanted)
        if own.checksum not in self._segmenters:
            known = next((one for one in self._segmenters.values() if one.shares(own)), None)
            try:
                self._segmenters[own.checksum] = (
                    known.under(own)
                    if known
                    else Segmenter(own, self.settings.car_device or None, self.settings.car_weights or None)
                )
            except MemoryFileError as error:
                raise VersionMismatch(f"{error} Workers look for memories in the folder CAR_MEMORY.") from None
        return self._segmenters[own.checksum]

    def studio_is_away(self) -> bool:
        """Whether Label Studio answers nothing just now; it is asked for some seconds."""
        try:
            self.studio.user()
        except StudioError as error:
            return isinstance(error, StudioUnavailable)
        return False

    def predict(self, job: Job) -> Outcome:
        """Fetch and segment the images of a task, one after the other.

        Where one of several cannot be read, the others are kept, unless the job will be tried again: then the error is
        raised, and so it is when none could be read.
        """
        own_version = job.config.version(self.settings.car_weights)
        if own_version != job.version:
            raise VersionMismatch(
                f"this worker would write {own_version}, the job wants {job.version}; "
                "start workers and backend from the same release, with the same CAR_WEIGHTS"
            )
        if len(job.pictures) > self.settings.car_task_images:
            raise ImageError(
                f"the task has {len(job.pictures)} images, more than CAR_TASK_IMAGES ({self.settings.car_task_images}) "
                "allows; split it, or raise the limit"
            )
        self.seconds = {}
        masks = TaskMasks(job)
        for picture in job.pictures:
            try:
                found = self._segment(job, picture)
            except (*UNREACHABLE, *PERMANENT) as error:
                current = get_current_job()
                if isinstance(error, PASSING) and current and (current.should_retry or self.is_free(error)):
                    raise
                masks.fail(picture, error, kind_of(error))
                continue
            with measures.timed(self.seconds, "encode"):
                masks.add(picture, found)
            del found
        outcome = masks.outcome()
        if job.ask is None:
            note = partial(self.scores.note, job.project, job.task, job.version, job.fingerprint, outcome.scores)
            patiently(note, KEEP_SECONDS)
        return outcome

    def is_free(self, error: BaseException) -> bool:
        """Whether this error costs none of the job's tries: a night without Label Studio must not use them up."""
        return isinstance(error, Stopped) or (isinstance(error, UNREACHABLE) and self.studio_is_away())

    def _segment(self, job: Job, picture: Picture) -> Segmentation:
        if job.ask is not None:
            return self.desk.answer(job, lambda: self.fetcher.fetch(picture.address, job.task))
        asked = job.config.image(picture.tag)
        with measures.timed(self.seconds, "fetch"):
            image = self.fetcher.fetch(picture.address, job.task)
        segmenter = self.segmenter(job.config.model_preset(asked))
        segmentation = segmenter.segment(image, asked.queries(), asked.thresholds())
        for stage, spent in segmentation.seconds.items():
            if stage != "total":
                self.seconds[stage] = self.seconds.get(stage, 0.0) + spent
        return segmentation


@cache
def engine() -> Engine:
    """This process's engine."""
    return Engine(load_settings())


def segment(payload: dict[str, Any]) -> str:
    """The one job function: segment one image and keep the result. Returns a short summary for RQ's log.

    What may pass is raised for RQ to run again; what cannot is recorded as failed at once.
    """
    own = engine()
    job = Job.from_json(payload)
    job_id = own.jobs.id_of(job)
    if own.jobs.state(job_id) is State.DONE and own.jobs.result(job_id) is not None:
        return "already done"  # given back by the sweep although it had finished
    if not patiently(lambda: own.jobs.start(job_id), NOTE_SECONDS):
        return "cancelled"
    own.reporter.begin(job_id)
    is_finished = False
    try:
        with logs.about(job.project, job.task, job_id):
            summary = _segment(own, job, job_id)
        is_finished = True
    finally:
        own.reporter.rest(is_finished)
    return summary


def _segment(own: Engine, job: Job, job_id: str) -> str:
    begun = time.perf_counter()
    try:
        outcome = own.predict(job)
    except (Exception, Stopped) as error:
        own.device_errors = own.device_errors + 1 if is_device_error(error) else 0
        _record_failure(own, job_id, error)
        raise
    own.device_errors = 0
    with measures.timed(own.seconds, "keep"):
        patiently(lambda: _keep(own, job, job_id, outcome), KEEP_SECONDS)
    seconds = time.perf_counter() - begun
    if job.ask is None:
        with suppress(RedisError):  # the result is kept; what it took is no reason to do it again
            measures.record(own.redis, seconds, own.seconds)
    summary = f"{', '.join(outcome.found) or 'nothing'} found in {seconds:.2f} s"
    log.info(summary)
    if outcome.missing:
        log.error("job %s is done in part: %s", job_id, outcome.missing)
    return summary


def _keep(own: Engine, job: Job, job_id: str, outcome: Outcome) -> None:
    is_asked = job.ask is not None
    own.jobs.finish(job_id, outcome.prediction, outcome.found, outcome.missing, outcome.kind, is_asked=is_asked)


def _record_failure(own: Engine, job_id: str, error: BaseException) -> None:
    jobs = own.jobs
    reason = str(error) or type(error).__name__
    if not isinstance(error, (*PASSING, *PERMANENT)):
        reason = f"{type(error).__name__}: {reason}"
    current = get_current_job()
    if current is not None and own.is_free(error):
        current.retries_left = (current.retries_left or 0) + 1
    elif current is not None and isinstance(error, PERMANENT) and not isinstance(error, PASSING):
        current.retries_left = 0
    if current is not None and current.should_retry:
        patiently(lambda: jobs.retry(job_id, reason), NOTE_SECONDS)
        log.warning("job %s will be tried again: %s", job_id, reason)
    else:
        patiently(lambda: jobs.fail(job_id, reason, kind_of(error)), NOTE_SECONDS)
        log.error("job %s failed: %s", job_id, reason)


class GPUWorker(PatientWorker):
    """The patient worker with a heartbeat during the job and the safe dequeue of `TakingQueue`."""

    queue_class = TakingQueue
    job_class = SegmentJob

    def execute_job(self, job: RQJob, queue: TakingQueue) -> None:
        """Run the job here, with a thread that shows that we live.

        A job whose end Redis does not take, however long it is waited for, is put back and costs no try.
        """
        try:
            self.prepare_execution(job)
            with pulse(lambda: self._beat(job), HEARTBEAT_SECONDS, job.timeout or 0):
                self.perform_job(job, queue)
        except RedisError as error:
            if not passes(error):
                raise
            log.error("job %s is put back. %s", job.id, explain(error))
            self._state = WorkerStatus.IDLE  # from here on SIGTERM ends the wait: the sweep would put the job back
            if not self._stop_requested:
                patiently(lambda: self._put_back(job, queue))
        self.set_state(WorkerStatus.IDLE)
        if engine().device_errors:
            free_device_memory()
        if engine().device_errors >= DEVICE_ERRORS:
            self._stop_requested = True

    def _put_back(self, job: RQJob, queue: TakingQueue) -> None:
        engine().jobs.retry(job.id, "Redis refused writes for too long, or was away")
        self.put_back(job, queue)

    def request_force_stop(self, signum: int, frame: FrameType | None) -> None:
        """The second SIGTERM, a second or more after the first: drop the image and end."""
        try:
            super().request_force_stop(signum, frame)
        except SystemExit:
            raise Stopped("the worker was told to stop at once") from None

    def prepare_job_execution(self, job: RQJob, remove_from_intermediate_queue: bool = False) -> None:
        """The job is now in RQ's registry of started ones, so it leaves the intermediate list, always."""
        super().prepare_job_execution(job, remove_from_intermediate_queue=True)

    def get_heartbeat_ttl(self, job: RQJob) -> int:
        """Seconds without a heartbeat after which the job is given to somebody else."""
        return DEAD_AFTER_SECONDS

    def handle_exception(self, job: RQJob, *exc_info: Any) -> None:
        """Log the traceback, but for what `segment` has told in one line: a missing image is no fault of ours."""
        if not isinstance(exc_info[1], (*PASSING, *PERMANENT)):
            super().handle_exception(job, *exc_info)

    def run_maintenance_tasks(self) -> None:
        """The courier's sweep does it: RQ's cleaner holds a lock for 15 minutes if it dies."""

    def _beat(self, job: RQJob) -> None:
        if self.execution is not None:
            self.maintain_heartbeats(job)
            self.stay_registered()


def work(settings: Settings, burst: bool = False, only: str | None = None) -> None:
    """Load the weights of the default preset, then work until told to stop (`burst`: until the queues are empty).

    `only`: the one queue that this worker takes from, where it is kept free for somebody.
    """
    own = engine()
    with own.reporter.reporting():
        try:
            segmenter = _load(own, settings)
        except Exception as error:
            own.reporter.broken(str(error) or type(error).__name__)
            raise
        own.reporter.device = lambda: device_of(segmenter)
        own.reporter.rest()
        names = (only,) if only else store.QUEUES
        queues = [TakingQueue(name, connection=own.redis, serializer=JSONSerializer) for name in names]
        worker = GPUWorker(queues, connection=own.redis, serializer=JSONSerializer, worker_ttl=DEAD_AFTER_SECONDS)
        worker.work(burst=burst, logging_level="WARNING")
        if own.device_errors >= DEVICE_ERRORS:
            reason = f"The GPU failed {DEVICE_ERRORS} times in a row; this worker ends so that a new one may start."
            own.reporter.broken(reason)
            raise SystemExit(reason)


def _load(own: Engine, settings: Settings) -> Segmenter:
    begun = time.perf_counter()
    segmenter = own.segmenter(preset(settings.car_preset))
    # The first image would pay for what is made once: the rivals' texts, the GPU's context and kernels.
    own.desk.warm_up(segmenter)
    seconds = time.perf_counter() - begun
    log.info("preset %s is ready on %s after %.1f s", settings.car_preset, segmenter.device, seconds)
    return segmenter
