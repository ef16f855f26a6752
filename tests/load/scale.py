"""How fast everything but the model is, and what it takes: `python -m tests.load.scale --json`.

All on this machine, the stub of Label Studio included, so every rate is a lower bound. Prints a table and, with
--json, one JSON object as the last line. `docs/scale.md` says what follows from it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from backend import store
from backend.images.fetcher import ImageFetcher, decode_image
from backend.labeling.parsing import Picture, parse_config
from backend.masks import brush
from backend.queue.jobs import Job, Jobs
from backend.settings import Settings
from backend.studio.client import Studio
from tests.load.image_codes import CODES, jpeg, masks_of, photo
from tests.load.records import upload
from tests.load.rig import Rig
from tests.load.shelf import Faults
from tests.load.stub_studio import CONFIG, LABELS, PROJECT, TOKEN

MEGAPIXEL = 1_000_000
FEW = 4
"""Different images of a megapixel: to draw one for each task would take longer than all that is measured."""
RATES = {"CAR_CONVERGE_SECONDS": "0"}
"""Settings: tasks of which the backend was not told are asked for when a measurement says so."""
BULK = 2500
"""Tasks in one webhook and in one /predict: what Label Studio was seen to send."""


class Bench:
    """A rig, and direct access to its Redis with the backend's own code."""

    def __init__(self, rig: Rig):
        self.rig = rig
        self.settings = Settings(
            redis_url=rig.env["REDIS_URL"], label_studio_url=rig.env["LABEL_STUDIO_URL"], label_studio_api_key=TOKEN
        )
        self.jobs = Jobs(store.connect(self.settings.redis_url, patient=True), self.settings)
        self.config = parse_config(CONFIG, self.settings.car_preset)
        self.version = self.config.version(self.settings.car_weights)

    def job(self, task: int) -> Job:
        image = Picture("image", upload(PROJECT, task))  # nothing is deleted, so the nth task has the nth upload
        return Job(PROJECT, task, (image,), self.config, self.version)

    def open_jobs(self) -> int:
        return int(self.rig.redis.zcard(store.OPEN))

    def memory(self) -> int:
        """Bytes that Redis uses for data."""
        return int(self.rig.redis.info("memory")["used_memory"])

    def prediction(self, pixels: int) -> dict[str, Any]:
        height = round((pixels * 3 / 4) ** 0.5)
        regions = [
            brush.region(mask, label, "mask", "image", 0.9, label)
            for label, mask in zip(LABELS, masks_of(height, round(pixels / height), 0), strict=False)
        ]
        return {"result": regions, "score": 0.9, "model_version": self.version}


def seconds_of(what: Callable[[], object]) -> float:
    """Wall time of one call."""
    begun = time.perf_counter()
    what()
    return time.perf_counter() - begun


def queueing() -> dict[str, float]:
    """Webhook, /predict, enqueueing and delivering, without workers."""
    with Rig(0, 0, settings=RATES) as rig:
        bench = Bench(rig)
        empty = bench.memory()
        told = rig.studio.import_tasks(BULK)
        expanded = seconds_of(lambda: rig.wait(lambda: bench.open_jobs() == BULK, 60)) + told["seconds"]
        per_job = (bench.memory() - empty) / BULK
        fresh = rig.studio.add_tasks(BULK)
        predict = rig.studio.retrieve(fresh)["seconds"]
        again = rig.studio.retrieve(fresh)["seconds"]
        more = [bench.job(task) for task in rig.studio.add_tasks(BULK)]
        enqueue = seconds_of(lambda: bench.jobs.request_many(more, store.BATCH))
        memory = rig.memory()["backend"]
        return {
            "webhook_2500_seconds": told["seconds"],
            "webhook_jobs_per_second": BULK / expanded,
            "predict_2500_new_seconds": predict,
            "predict_2500_queued_seconds": again,
            "enqueue_jobs_per_second": BULK / enqueue,
            "redis_bytes_per_open_job": per_job,
            "web_memory_mb": memory,
        }


def delivering(latency: float, count: int) -> dict[str, float]:
    """The courier's rate over a Label Studio that takes `latency` seconds per request, and memory per kept result."""
    with Rig(0, 0, settings=RATES) as rig:
        bench = Bench(rig)
        rig.studio.faults(Faults(latency=latency))
        tasks = rig.studio.add_tasks(count)
        prediction = bench.prediction(MEGAPIXEL)
        with rig.without_courier():
            for task in tasks:
                bench.jobs.request(bench.job(task), store.BATCH)
            before = bench.memory()
            for task in tasks:
                bench.jobs.finish(bench.jobs.id_of(bench.job(task)), prediction, LABELS)
            per_result = (bench.memory() - before) / count
        rig.wait(lambda: rig.redis.zcard(store.OUTBOX) < count, 60)
        left = int(rig.redis.zcard(store.OUTBOX))
        seconds = seconds_of(lambda: rig.wait(lambda: rig.redis.zcard(store.OUTBOX) == 0, 300))
        assert rig.studio.report()["delivered"] == count
        return {"deliveries_per_second": left / seconds, "redis_bytes_per_result": per_result}


def throughput(workers: int, latency: float, count: int, pixels: int) -> dict[str, float]:
    """Tasks per second with so many null workers, and the CPU time per task of each process."""
    codes = FEW if pixels >= MEGAPIXEL else CODES
    with Rig(workers, latency, pixels=pixels, codes=codes, settings=RATES) as rig:
        before = rig.cpu()
        rig.studio.import_tasks(count)
        rig.wait(rig.idle, 300)
        used = {name: seconds - before[name] for name, seconds in rig.cpu().items()}
        tickets = [rig.redis.hmget(key, "started", "finished") for key in rig.redis.scan_iter(store.ticket_key("*"))]
        assert rig.studio.report()["delivered"] == count
        begun, ended = min(float(first) for first, _ in tickets), max(float(last) for _, last in tickets)
        row = {
            "workers": workers,
            "tasks_per_second": count / (ended - begun),
            "ideal": workers / latency if latency else 0.0,
        }
        for group in ("worker", "courier", "backend", "redis", "studio"):
            total = sum(seconds for name, seconds in used.items() if name.startswith(group))
            row[f"{group}_ms_per_task"] = 1000 * total / count
        return row


def stages(repeats: int = 30) -> dict[str, float]:
    """CPU milliseconds of this process for each stage of a task at a megapixel, outside the model."""
    data, masks = jpeg(photo(MEGAPIXEL, 1), 0), masks_of(866, 1155, 0)
    with Rig(0, 0, pixels=MEGAPIXEL, codes=FEW, settings=RATES) as rig:
        bench = Bench(rig)
        studio = Studio(bench.settings.label_studio_url, TOKEN)
        fetcher = ImageFetcher(studio.url, studio.authorization)
        tasks = rig.studio.add_tasks(repeats)
        prediction = bench.prediction(MEGAPIXEL)
        jobs = [bench.job(task) for task in tasks]
        with rig.without_courier():
            cpu = {
                "fetch and decode": _cpu_ms(
                    lambda i: fetcher.fetch(jobs[i].pictures[0].address, jobs[i].task), repeats
                ),
                "of that, decode": _cpu_ms(lambda i: decode_image(data, fetcher._limits), repeats),
                "encode two masks": _cpu_ms(
                    lambda i: [brush.region(mask, "cat", "mask", "image", 0.9, "x") for mask in masks], repeats
                ),
                "enqueue": _cpu_ms(lambda i: bench.jobs.request(jobs[i], store.BATCH), repeats),
                "compress and keep": _cpu_ms(
                    lambda i: bench.jobs.finish(bench.jobs.id_of(jobs[i]), prediction, LABELS), repeats
                ),
                "look up and push": _cpu_ms(lambda i: _push(studio, bench, jobs[i]), repeats),
            }
    return cpu


def _push(studio: Studio, bench: Bench, job: Job) -> None:
    """As the courier does, but one by one: the dearer way."""
    result = bench.jobs.result(bench.jobs.id_of(job)) or {}
    assert studio.predictions(job.task) == []
    assert studio.create_prediction(job.task, result)


def _cpu_ms(what: Callable[[int], object], repeats: int) -> float:
    times = []
    for number in range(repeats):
        begun = time.process_time()
        what(number)
        times.append(time.process_time() - begun)
    return 1000 * float(np.median(times))


def measure(workers: Sequence[int], latency: float, seconds: float) -> dict[str, Any]:
    """All figures."""
    found: dict[str, Any] = {"queueing": queueing()}
    found["delivery"] = {f"{ms} ms": delivering(ms / 1000, 1000) for ms in (0, 20)}
    found["stages_ms"] = stages()
    found["one megapixel"] = throughput(1, 0.0, 150, MEGAPIXEL)
    found["workers"] = [throughput(n, latency, int(n * seconds / latency), 256 * 256) for n in workers]
    found["no latency"] = [throughput(n, 0.0, 600, 256 * 256) for n in (1, 2)]
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--latency", type=float, default=0.2, help="seconds that the segmenter sleeps (default 0.2)")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of each throughput run (default 12)")
    args = parser.parse_args()
    found = measure(args.workers, args.latency, args.seconds)
    for title, rows in found.items():
        print(title)
        for row in rows if isinstance(rows, list) else [rows]:
            print("  " + ", ".join(f"{name} {_shown(value)}" for name, value in row.items()))
    if args.json:
        print(json.dumps(found))


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
