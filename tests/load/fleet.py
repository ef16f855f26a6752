"""An import of ten thousand tasks, end to end, on several hosts: `python -m tests.load.fleet --tasks 10000`.

Each "host" is a group of processes with a host name and an image cache of its own; all share one Redis, one courier
and one Label Studio, as hosts do. The workers are null workers. The last line is one JSON object; the exit code is 1
when a prediction is lost, doubled or of another image, or a host did nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backend import store
from tests.load.rig import Rig, summary

LIMIT = 3600.0
MEGABYTE = 1_000_000


def night(rig: Rig, tasks: int, per_webhook: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Import so many tasks as Label Studio does and wait until each has its prediction."""
    begun, cpu = time.monotonic(), rig.cpu()
    answered = [rig.studio.import_tasks(min(per_webhook, tasks - at)) for at in range(0, tasks, per_webhook)]
    queued = done = web = 0.0
    while not (queued and rig.idle()) and time.monotonic() - begun < LIMIT:
        rig.tick(0.5)
        web = max(web, rig.memory().get("backend", 0.0))
        asked = tasks if queued else _tickets(rig)
        if asked >= tasks and not queued:
            queued = time.monotonic() - begun
        if queued and not done and not rig.redis.zcard(store.OPEN):
            done = time.monotonic() - begun
        say(f"{asked} asked for, {rig.redis.zcard(store.OPEN)} open, {rig.redis.zcard(store.OUTBOX)} to deliver")
    report, seconds = rig.studio.report(), time.monotonic() - begun
    used = {name: spent - cpu[name] for name, spent in rig.cpu().items()}
    groups = {"worker": "worker", "courier": "courier", "backend": "backend", "redis": "redis"}
    return {
        **summary(report, tasks, seconds),
        "webhooks_accepted": sum(one["accepted"] for one in answered),
        "webhook_seconds": round(max(one["seconds"] for one in answered), 3),
        "all_queued_after": round(queued, 1),
        "all_segmented_after": round(done, 1),
        "tasks_per_second": round(tasks / (done or seconds), 1),
        "failed": rig.failures(),
        "done_by_host": by_host(rig),
        "cache_mb_by_host": {host: round(size_of(folder) / MEGABYTE, 1) for host, folder in rig.hosts.items()},
        "web_memory_mb": round(web, 1),
        "cpu_ms_per_task": {
            group: round(1000 * sum(spent for name, spent in used.items() if part in name) / tasks, 1)
            for group, part in groups.items()
        },
    }


def _tickets(rig: Rig) -> int:
    """How many jobs were ever asked for: nothing is forgotten within a run."""
    return sum(1 for _ in rig.redis.scan_iter(store.ticket_key("*"), count=5000))


def by_host(rig: Rig) -> dict[str, int]:
    """Jobs done so far on each host, as its workers told RQ."""
    done: Counter[str] = Counter()
    for worker in rig.redis.smembers("rq:workers"):
        host, jobs = rig.redis.hmget(worker, "hostname", "successful_job_count")
        done[store.text(host or b"?")] += int(jobs or 0)
    return dict(done)


def size_of(folder: Path) -> int:
    """Bytes in a folder without folders, 0 when it is not there."""
    return sum(path.stat().st_size for path in folder.glob("*"))


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.fleet", description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--workers", type=int, default=4, help="on each host (default 4)")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds that the segmenter sleeps (default 0.2)")
    parser.add_argument(
        "--per-webhook", type=int, default=10_000, help="tasks: a file has all in one, a storage 5,000 (default 10,000)"
    )
    parser.add_argument("--cache-bytes", type=int, default=50 * MEGABYTE, help="of each host (default 50 MB)")
    args = parser.parse_args()
    begun = said = time.monotonic()

    def say(line: str) -> None:
        nonlocal said
        if time.monotonic() - said >= 10:
            said = time.monotonic()
            print(f"{said - begun:7.1f} s  {line}", flush=True)

    settings = {"CAR_IMAGE_CACHE_BYTES": str(args.cache_bytes), "CAR_CONVERGE_SECONDS": "60"}
    rig = Rig(args.workers, args.latency, settings=settings, hosts=max(args.hosts, 1))
    with rig:
        found = night(rig, args.tasks, args.per_webhook, say)
    bad = found["lost"] or found["doubled"] or found["wrong"] or len(found["done_by_host"]) < args.hosts
    if bad:
        print(f"The logs are in {rig.supervisor.logs}")
    else:
        rig.remove()
    print(json.dumps(found), flush=True)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
