"""The status page: what is queued, who works on what, what went wrong and what to do about it.

`/` is the page (see `backend.app`), `/status.json` the same figures for programs, `/metrics` those for Prometheus.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from flask import Response, current_app, jsonify
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from redis.exceptions import RedisError

from backend.labeling.parsing import empty_config
from backend.pages.base import blueprint, predictor, render, task_link
from backend.queue.job import task_of
from backend.settings import Settings
from backend.status import metrics, overview
from backend.status.refused import LastRefused
from backend.trouble import explain
from backend.words import duration

pages = blueprint("status")

REFRESH_SECONDS = 3
CHART_HEIGHT = 40


def status() -> Response:
    """GET /: the page."""
    settings = predictor().settings
    web = about(settings)
    try:
        read = overview.read(predictor().jobs)
    except RedisError as error:
        return render("status.html", "Status", REFRESH_SECONDS, error=explain(error), web=web, refused=_refused())
    return render(
        "status.html",
        "Status",
        REFRESH_SECONDS,
        read=read,
        web=web,
        refused=_refused(),
        advice=overview.advice(read, web["version"]),
        most=max(minute.images for minute in read.minutes),
        height=CHART_HEIGHT,
        link=lambda project, task: task_link(settings, project, task),
        task_of=task_of,
    )


@pages.get("/status.json")
def status_json() -> tuple[Response, int]:
    """GET /status.json: everything that the page shows; 503 with `error` while Redis is away."""
    web = {**about(predictor().settings), "webhooks_refused": asdict(_refused())}
    try:
        return jsonify({**asdict(overview.read(predictor().jobs)), "web": web}), 200
    except RedisError as error:
        return jsonify({"error": explain(error), "web": web}), 503


def exposition() -> Response:
    """GET /metrics: for Prometheus; 200 also while Redis is away, then with `car_redis_up 0`."""
    text = metrics.exposition(predictor().jobs, _refused().count)
    return Response(text, content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _refused() -> LastRefused:
    last: LastRefused = current_app.config["REFUSED"].last
    return last


def about(settings: Settings) -> dict[str, Any]:
    """What the web process was started with; workers must have the same preset and version."""
    version = empty_config(settings.car_preset).version(settings.car_weights)
    return {
        "preset": settings.car_preset,
        "version": version,
        "password": settings.auth is not None,
        "open": settings.car_open,
    }


pages.add_app_template_filter(duration, "duration")


@pages.app_template_filter("clock")
def clock(seconds: float) -> str:
    """Seconds since the epoch as a date and time of day, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@pages.app_template_filter("memory")
def memory(number: float) -> str:
    """Bytes as people say them: 512 MB, 1.5 GB."""
    return f"{number / 2**30:.1f} GB" if number >= 2**30 else f"{number / 2**20:.0f} MB"
