"""The order of the checks: what depends on something broken is not looked at, and says so."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

from redis.exceptions import RedisError

from backend import store
from backend.doctor import here, inside
from backend.doctor import studio as outside
from backend.doctor.findings import Finding, Verdict, problem, unknown
from backend.queue.jobs import Jobs
from backend.settings import Settings
from backend.studio.client import Studio, StudioError

DEFAULT_URL = "http://127.0.0.1:9090"


def examine(project: int | None, url: str | None) -> Iterator[Finding]:
    """Look at everything, one finding after the other; `url` is the web process, None where Label Studio has it."""
    settings, findings = here.check_settings(os.environ)
    yield from findings
    if settings is None:
        yield unknown("the rest", "Nothing else can be looked at before the settings are right.")
        return
    url = url.rstrip("/") if url else None
    yield from redis(settings)
    connected = yield from studio(settings, project, url)
    web, findings = inside.check_web(url or connected or DEFAULT_URL, settings)
    if not (url or connected or web.about):
        findings = [unknown("web process", f"It is not at {DEFAULT_URL}.", "Say where it is: --url http://HOST:PORT.")]
    yield from findings
    yield inside.check_password(web, settings)
    yield from here.check_guard(settings)
    yield from here.check_room(Path.home())


def redis(settings: Settings) -> Iterator[Finding]:
    """Redis, and what is told through it."""
    try:
        client = store.connect(settings.redis_url, patient=False)
    except ValueError as error:
        yield problem("redis", f"{error}", "REDIS_URL must look like redis://localhost:6379/0.")
        return
    with client:
        findings = inside.check_redis(client, settings.redis_url)
        yield from findings
        if findings[0].verdict is not Verdict.OK:
            yield unknown("workers", "They tell through Redis.")
            return
        try:
            yield from inside.check_workers(Jobs(client, settings))
        except RedisError as error:
            yield unknown("workers", f"Redis went away: {error}")


def studio(settings: Settings, project: int | None, url: str | None) -> Generator[Finding, None, str | None]:
    """Label Studio, and one project in it; returns where that has our backend, None when nobody knows."""
    reach = outside.check_reach(settings.label_studio_url)
    yield reach
    if reach.verdict is not Verdict.OK:
        yield unknown("project", "Label Studio does not answer.")
        return None
    client = Studio(settings.label_studio_url, settings.label_studio_api_key.get_secret_value())
    token = outside.check_token(client, settings)
    yield token
    if project is None:
        yield unknown("project", "None was named.", "Say --project ID, the number in the project's address.")
    elif token.verdict is not Verdict.OK:
        yield unknown("project", "The token does not open it.")
    else:
        try:
            return (yield from outside.check_project(client, settings, project, url))
        except StudioError as error:
            yield unknown("project", str(error))
    return None
