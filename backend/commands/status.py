"""`python -m backend status`: what is queued, running, failed and not yet delivered."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from redis.exceptions import RedisError
from rq.registry import StartedJobRegistry
from rq.worker_registration import get_keys

from backend import store
from backend.delivery import oldest_age
from backend.jobs import Jobs
from backend.settings import load_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--failures", type=int, default=20, metavar="N", help="list the newest N failed tasks")


def run(args: argparse.Namespace) -> int:
    """Print the status; 1 when Redis does not answer."""
    settings = load_settings()
    try:
        status = read_status(Jobs(store.connect(settings.redis_url, patient=False), settings), args.failures)
    except RedisError as error:
        print(f"Redis does not answer: {error}. Start it, or correct REDIS_URL.", file=sys.stderr)
        return 1
    print(json.dumps(status, indent=1) if args.json else as_text(status))
    return 0


def read_status(jobs: Jobs, failures: int) -> dict[str, Any]:
    """Everything as plain JSON values; ages in seconds."""
    redis = jobs.redis
    unfinished = int(redis.zcard(store.OPEN))
    started = sum(StartedJobRegistry(queue=queue).get_job_count(cleanup=False) for queue in jobs.queues.values())
    running = min(started, unfinished)
    counters = {store.text(k): int(v) for k, v in redis.hgetall(store.COUNTERS).items()}
    return {
        "queued": unfinished - running,
        "running": running,
        "oldest_open_seconds": oldest_age(redis, store.OPEN),
        "workers": len(get_keys(connection=redis)),
        "courier": bool(redis.exists("car:courier")),
        "webhooks_to_read": int(redis.llen(store.INBOX) + redis.llen(store.READING)),
        "in_outbox": int(redis.zcard(store.OUTBOX)),
        "delivered": counters.get("delivered", 0),
        "dropped": counters.get("dropped", 0),
        "failed": int(redis.zcard(store.FAILED)),
        "failures": [_failure(job_id, ticket) for job_id, ticket in jobs.failures(failures)],
        "undelivered": [_undelivered(jobs, store.text(i)) for i in redis.zrange(store.OUTBOX, 0, failures - 1)],
    }


def _failure(job_id: str, ticket: dict[str, str]) -> dict[str, Any]:
    job = json.loads(ticket.get("job", "{}"))
    age = time.time() - float(ticket.get("finished", time.time()))
    return {
        "job": job_id,
        "project": job.get("project"),
        "task": job.get("task"),
        "error": ticket.get("error", ""),
        "failures": int(ticket.get("failures", "0")),
        "seconds_ago": round(age),
    }


def _undelivered(jobs: Jobs, job_id: str) -> dict[str, Any]:
    ticket = jobs.ticket(job_id)
    return {"job": job_id, "answered": "answered" in ticket, "reason": ticket.get("undelivered", "")}


def as_text(status: dict[str, Any]) -> str:
    """The same for people."""
    age = status["oldest_open_seconds"]
    lines = [
        f"workers    {status['workers']}" + ("" if status["workers"] else "   none: start `python -m backend worker`"),
        "courier    " + ("at work" if status["courier"] else "none: start `python -m backend courier`"),
        f"queued     {status['queued']}",
        f"running    {status['running']}" + (f"   oldest waits since {age:.0f} s" if age is not None else ""),
        f"outbox     {status['in_outbox']}   predictions to push or to verify",
        f"delivered  {status['delivered']}",
        f"failed     {status['failed']}",
    ]
    lines += [f"  task {f['task']} of project {f['project']}: {f['error']}" for f in status["failures"]]
    waiting = [entry for entry in status["undelivered"] if entry["reason"]]
    if waiting:
        lines.append(f"not delivered, {len(waiting)} shown:")
        lines += [f"  {entry['job']}: {entry['reason']}" for entry in waiting]
    return "\n".join(lines)
