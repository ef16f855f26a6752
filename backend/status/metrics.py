"""/metrics for Prometheus: the figures of `backend.status.overview`, read from Redis at each scrape.

Names are `car_*`; seconds, bytes and `_total` as Prometheus wants them. With Redis away there are `car_redis_up 0` and
what the web process itself counts, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from backend.queue.failures import Failure
from backend.queue.jobs import Jobs
from backend.status import overview, reports
from backend.status.measures import JOB
from backend.status.overview import Overview
from backend.status.reports import Doing, WorkerReport

STAGE_HELP = "Seconds per stage of a job: fetch, trunk, texts, proposals, classifier, masks, encode, keep."


def exposition(jobs: Jobs, webhooks_refused: int = 0) -> bytes:
    """The whole page, in Prometheus's text format; `webhooks_refused` are those of the asking web process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(jobs, webhooks_refused))
    return generate_latest(registry)


class Figures(Collector):
    """Reads Redis when it is collected; keeps nothing."""

    def __init__(self, jobs: Jobs, webhooks_refused: int):
        self.jobs = jobs
        self.webhooks_refused = webhooks_refused

    def collect(self) -> Iterator[Metric]:
        """One scrape."""
        yield CounterMetricFamily(
            "car_webhooks_refused",
            "Webhooks that this web process could not keep since its start, as Redis did not take them.",
            value=self.webhooks_refused,
        )
        try:
            read = overview.read(self.jobs, shown=0)
        except RedisError:
            yield _gauge("car_redis_up", "Whether Redis answers; nothing else is known while it does not.", 0)
            return
        yield _gauge("car_redis_up", "Whether Redis answers; nothing else is known while it does not.", 1)
        yield _gauge("car_redis_writable", "Whether Redis takes writes.", float(not read.refuses_writes))
        yield from _queues(read)
        yield from _outcomes(read)
        yield from _durations(read)
        yield from _workers(read)


def _queues(read: Overview) -> Iterator[Metric]:
    states = {"queued": read.queued, "running": read.running, "failed": read.failed}
    yield _gauges("car_jobs", "Jobs by state; done ones leave at once.", "state", states)
    lengths = {**read.waiting, "outbox": read.in_outbox, "inbox": read.webhooks_to_read}
    yield _gauges(
        "car_queue_length",
        "What waits: jobs (interactive, batch, retries), predictions to deliver (outbox), webhooks to read (inbox).",
        "queue",
        lengths,
    )
    yield _gauge(
        "car_oldest_job_age_seconds",
        "Age of the oldest job that is queued or running, 0 when there is none.",
        read.oldest_open_seconds or 0.0,
    )
    yield _gauge(
        "car_delivery_delay_seconds",
        "For how long the most overdue delivery has been due, 0 when none is.",
        read.oldest_in_outbox_seconds or 0.0,
    )
    yield _gauge("car_projects_connected", "Projects that have this backend as their ML backend.", read.connected)
    yield _gauge(
        "car_projects_without_webhook",
        "Connected projects whose imports are found by comparison only, as Label Studio makes no webhook.",
        len(read.webhook_problems),
    )
    yield _gauge("car_courier_up", "Whether a courier is at work.", float(read.courier))


def _outcomes(read: Overview) -> Iterator[Metric]:
    predictions = CounterMetricFamily(
        "car_predictions", "Finished predictions that Label Studio has, or that nobody wants.", labels=["outcome"]
    )
    for outcome, count in {"delivered": read.delivered, "dropped": read.dropped}.items():
        predictions.add_metric([outcome], count)
    yield predictions
    failures = CounterMetricFamily("car_failures", "Jobs given up, by what went wrong.", labels=["kind"])
    for kind in Failure:
        failures.add_metric([kind], read.failed_by_kind.get(kind, 0))
    yield failures


def _durations(read: Overview) -> Iterator[Metric]:
    whole = HistogramMetricFamily("car_job_seconds", "Seconds per job, from a worker's start with it to its result.")
    stages = HistogramMetricFamily("car_stage_seconds", STAGE_HELP, labels=["stage"])
    for name, histogram in read.stages.items():
        if name == JOB:
            whole.add_metric([], histogram.cumulative(), histogram.total)
        else:
            stages.add_metric([name], histogram.cumulative(), histogram.total)
    yield whole
    yield stages


def _workers(read: Overview) -> Iterator[Metric]:
    doing = {kind: sum(one.doing is kind for one in read.worker_reports) for kind in Doing}
    yield _gauge("car_workers_alive", "Workers that report, but for broken ones.", read.workers)
    yield _gauges("car_workers", "Workers by what they do.", "doing", {str(kind): n for kind, n in doing.items()})
    names = ["worker", "host", "device", "preset", "version"]
    info = GaugeMetricFamily("car_worker_info", "One per worker that is alive; always 1.", labels=names)
    memory = GaugeMetricFamily("car_worker_memory_bytes", "Resident memory of a worker's process.", labels=["worker"])
    held = GaugeMetricFamily("car_worker_device_memory_bytes", "GPU memory that a worker holds.", labels=["worker"])
    total = GaugeMetricFamily("car_worker_device_memory_total_bytes", "Memory of a worker's GPU.", labels=["worker"])
    busy = GaugeMetricFamily("car_worker_job_age_seconds", "For how long a worker is at its job.", labels=["worker"])
    images = CounterMetricFamily("car_worker_images", "Images finished since a worker's start.", labels=["worker"])
    for one in reports.alive(read.worker_reports):
        name = worker_name(one)
        info.add_metric([name, one.host, one.device, one.preset, one.version], 1)
        memory.add_metric([name], one.memory)
        busy.add_metric([name], max(read.at - one.since, 0.0) if one.doing is Doing.WORKING else 0.0)
        images.add_metric([name], one.images)
        if one.device_memory_total:
            held.add_metric([name], one.device_memory)
            total.add_metric([name], one.device_memory_total)
    yield from (info, memory, held, total, busy, images)


def worker_name(worker: WorkerReport) -> str:
    """How a worker is called in labels: where it runs and as which process."""
    return f"{worker.host}:{worker.pid}"


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(name, about, value=value)


def _gauges(name: str, about: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, about, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
