"""What a worker tells while it works: its report, how long each stage took, kinds of failure, lines about the job."""

from __future__ import annotations

import base64
import io
import logging
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rq.serializers import JSONSerializer
from rq.timeouts import JobTimeoutException

from backend import store, worker
from backend.images.fetcher import ImageError, ImageUnavailable
from backend.labeling.parsing import parse_config
from backend.logs import Lines
from backend.queue.failures import Failure
from backend.queue.job import task_of
from backend.queue.jobs import Job
from backend.settings import Settings
from backend.status import measures, overview, reports
from backend.status.reports import Device, Doing
from backend.studio.client import StudioError, StudioUnavailable
from backend.worker import Engine, GPUWorker, TakingQueue, VersionMismatch
from model.segmentation import Segmentation
from tests.backend.conftest import CONFIG, one_image
from tests.backend.test_worker import work_off


class Stand:
    """In the place of the segmenter: finds the first label everywhere, or fails as it is told; may be held up."""

    device = "cpu"

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.go = threading.Event()
        self.go.set()

    def segment(self, image: Any, queries: Any, *_: Any, **__: Any) -> Segmentation:
        assert self.go.wait(60)
        if self.error is not None:
            raise self.error
        height, width = image.shape[:2]
        masks = np.ones((1, height, width), bool)
        seconds = {"trunk": 0.25, "masks": 0.5, "total": 0.75}
        return Segmentation((queries[0].label,), masks, np.ones(1, np.float32), {"cat": 1.0}, (), seconds)


@pytest.fixture
def stand() -> Stand:
    return Stand()


@pytest.fixture
def engine(settings: Settings, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> Engine:
    own = Engine(settings)
    monkeypatch.setattr(own, "segmenter", lambda config: stand)
    monkeypatch.setattr(worker, "engine", lambda: own)
    return own


@pytest.fixture
def picture() -> Job:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6)).save(buffer, "PNG")
    config = parse_config(CONFIG, "demo")
    image = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Job(1, 7, one_image(image), config, config.version())


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the worker logs, in the form for people."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Lines("worker", []))
    worker.log.addHandler(handler)
    worker.log.setLevel(logging.INFO)
    yield stream
    worker.log.removeHandler(handler)
    worker.log.setLevel(logging.NOTSET)


def test_while_it_works_it_says_on_what(engine: Engine, picture: Job, stand: Stand) -> None:
    stand.go.clear()
    engine.jobs.request(picture, store.BATCH)
    with engine.reporter.reporting():
        thread = threading.Thread(target=worker.segment, args=(picture.to_json(),))
        thread.start()
        try:
            while True:
                (report,) = reports.read(engine.redis)
                if report.doing is Doing.WORKING:
                    break
            assert task_of(report.job) == (1, 7)
        finally:
            stand.go.set()
            thread.join()
        (report,) = reports.read(engine.redis)
        assert (report.doing, report.job, report.images) == (Doing.IDLE, "", 1)


def test_every_stage_of_a_finished_job_is_measured(engine: Engine, picture: Job) -> None:
    engine.jobs.request(picture, store.BATCH)
    work_off(engine)
    found = measures.histograms(engine.redis.hgetall(store.STAGES))
    assert set(found) == {"fetch", "trunk", "masks", "encode", "keep", "job"}
    assert {histogram.count for histogram in found.values()} == {1}
    assert (found["trunk"].total, found["masks"].total) == (0.25, 0.5)
    assert sum(minute.images for minute in overview.read(engine.jobs).minutes) == 1


def test_a_failed_job_counts_by_kind_and_is_no_image(engine: Engine, picture: Job, stand: Stand) -> None:
    stand.error = ValueError("the image is upside down")
    engine.jobs.request(picture, store.BATCH)
    work_off(engine)
    read = overview.read(engine.jobs)
    assert read.failed_by_kind == {"image": 1}
    (failure,) = read.failures
    assert (failure.kind, failure.error) == ("image", "the image is upside down")
    assert read.stages == {}
    assert engine.reporter._report.images == 0


def test_lines_about_a_job_name_it(engine: Engine, picture: Job, stand: Stand, lines: io.StringIO) -> None:
    engine.jobs.request(picture, store.BATCH)
    work_off(engine)
    job_id = engine.jobs.id_of(picture)
    assert f"INFO worker backend.worker [project 1 task 7 job {job_id}]: cat found in" in lines.getvalue()


@pytest.mark.parametrize(("error", "tracebacks"), [(ImageError("gone"), 0), (KeyError("surprise"), 1)])
def test_only_what_is_our_fault_fills_the_log(
    engine: Engine, picture: Job, caplog: pytest.LogCaptureFixture, error: Exception, tracebacks: int
) -> None:
    engine.jobs.request(picture, store.BATCH)
    (job,) = engine.jobs.queues[store.BATCH].get_jobs()
    queues = [TakingQueue(store.BATCH, connection=engine.redis, serializer=JSONSerializer)]
    with caplog.at_level(logging.ERROR, logger="rq.worker"):
        own = GPUWorker(queues, connection=engine.redis, serializer=JSONSerializer)
        own.handle_exception(job, type(error), error, None)
    assert caplog.text.count("exception raised") == tracebacks


class AcceleratorError(RuntimeError):
    """Called as torch calls it."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ImageError("gone"), Failure.IMAGE),
        (ValueError("no pixels"), Failure.IMAGE),
        (ImageUnavailable("slow"), Failure.NETWORK),
        (StudioUnavailable("slow"), Failure.NETWORK),
        (StudioError("401"), Failure.STUDIO),
        (VersionMismatch("old"), Failure.RELEASE),
        (AcceleratorError("CUDA error: an illegal memory access"), Failure.DEVICE),
        (RuntimeError("CUDA error: device-side assert"), Failure.DEVICE),
        (JobTimeoutException("1800 s"), Failure.TIMEOUT),
        (KeyError("surprise"), Failure.OTHER),
    ],
)
def test_kinds_of_failure(error: Exception, kind: Failure) -> None:
    assert worker.kind_of(error) is kind


def test_a_cpu_has_a_name_but_no_memory_of_its_own(stand: Stand) -> None:
    assert worker.device_of(stand) == Device("cpu", 0, 0)  # type: ignore[arg-type]


def test_a_worker_that_cannot_load_says_why(
    engine: Engine, settings: Settings, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand.error = RuntimeError("weights are missing")
    with pytest.raises(RuntimeError):
        worker.work(settings, burst=True)
    (report,) = reports.read(engine.redis)
    assert (report.doing, report.error) == (Doing.BROKEN, "weights are missing")
    assert overview.advice(overview.read(engine.jobs), report.version)[-1].endswith("cannot work: weights are missing")
