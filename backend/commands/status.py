"""`python -m backend status`: what is queued, running, failed and not yet delivered."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from redis.exceptions import RedisError

from backend import store
from backend.queue.jobs import Jobs
from backend.settings import Settings, load_settings
from backend.status import alive, overview
from backend.status.overview import Overview
from backend.status.reports import WorkerReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--failures", type=int, default=20, metavar="N", help="list the newest N failed tasks")
    parser.add_argument(
        "--check",
        choices=["web", "worker", "courier"],
        help="only tell whether this process lives (of workers: one of this host); exit code 1 when not",
    )
    parser.add_argument(
        "--url", default=alive.WEB_URL, metavar="URL", help="with --check web: where it is (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Print the status; 1 when Redis does not answer, or what is checked does not live."""
    settings = load_settings()
    if args.check:
        return _check(args, settings)
    try:
        status = overview.read(Jobs(store.connect(settings.redis_url, patient=False), settings), args.failures)
    except RedisError as error:
        print(f"Redis does not answer: {error}. Start it, or correct REDIS_URL.", file=sys.stderr)
        return 1
    print(json.dumps(asdict(status), indent=1) if args.json else as_text(status))
    return 0


def _check(args: argparse.Namespace, settings: Settings) -> int:
    checks = {"web": lambda: alive.web(settings, args.url), "worker": lambda: alive.worker(settings)}
    lives, words = checks.get(args.check, lambda: alive.courier(settings))()
    print(f"{args.check}: {words}")
    return 0 if lives else 1


def as_text(status: Overview) -> str:
    """The same for people."""
    age = status.oldest_open_seconds
    waiting = ", ".join(f"{count} {name}" for name, count in status.waiting.items() if count)
    pace = status.seconds_per_image
    lines = [
        *([status.refuses_writes] if status.refuses_writes else []),
        f"workers    {status.workers}" + ("" if status.workers else "   none: start `python -m backend worker`"),
        *(f"  {worker_line(one, status.at)}" for one in status.worker_reports),
        "courier    " + ("at work" if status.courier else "none: start `python -m backend courier`"),
        f"queued     {status.queued}" + (f"   {waiting}" if waiting else ""),
        f"running    {status.running}" + (f"   oldest waits since {age:.0f} s" if age is not None else ""),
        *(f"  task {one.task} of project {one.project}: {one.seconds:.0f} s" for one in status.running_tasks),
        f"rate       {status.images_per_minute:.1f} per minute" + (f"   {pace:.1f} s per image" if pace else ""),
        f"outbox     {status.in_outbox}   predictions to push or to verify",
        f"delivered  {status.delivered}",
        f"failed     {status.failed}",
        *(f"  task {one.task} of project {one.project}: {one.error}" for one in status.failures),
    ]
    if status.paused:
        lines.append(f"paused     {', '.join(status.paused)}   go on with `python -m backend resume`")
    late = [entry for entry in status.undelivered if entry.reason]
    if late:
        lines.append(f"not delivered, {len(late)} shown:")
        lines += [f"  {entry.job}: {entry.reason}" for entry in late]
    return "\n".join(lines)


def worker_line(worker: WorkerReport, now: float) -> str:
    """One worker in one line."""
    job = f" on {worker.job}" if worker.job else ""
    return (
        f"{worker.host}:{worker.pid}  {worker.preset} on {worker.device or '?'}  "
        f"{worker.doing}{job} since {max(now - worker.since, 0):.0f} s  {worker.error}"
    ).rstrip()
