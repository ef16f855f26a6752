"""One form of log for all processes: lines for people, or one JSON object per line (CAR_LOG=json).

Every line tells when, how bad, which process and which part of it; while a worker is at a job, also which project,
task and job. Tokens and passwords never get into it: whatever of them a message holds is replaced by stars.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from urllib.parse import unquote, urlsplit

from backend.settings import SettingsError, secret_files

LEVEL = logging.INFO
SECRETS = ("LABEL_STUDIO_API_KEY", "BASIC_AUTH_PASS", "REDIS_PASSWORD")
"""Variables whose values are secrets; the password within REDIS_URL is another."""
STARS = "***"

_job: ContextVar[Mapping[str, int | str] | None] = ContextVar("job", default=None)


@contextmanager
def about(project: int, task: int, job: str) -> Iterator[None]:
    """Every line that this thread logs inside the block is about this job."""
    token = _job.set({"project": project, "task": task, "job": job})
    try:
        yield
    finally:
        _job.reset(token)


def configure(process: str, env: Mapping[str, str] = os.environ) -> None:
    """Have everything logged to standard error in our form; `process` is `worker`, `serve`, ...

    Reads the environment rather than the settings, so that it also serves when those are wrong.
    """
    handler = logging.StreamHandler()
    form = JSONLines if env.get("CAR_LOG", "").lower() == "json" else Lines
    handler.setFormatter(form(process, secrets(env)))
    logging.basicConfig(level=LEVEL, handlers=[handler])


def secrets(env: Mapping[str, str]) -> list[str]:
    """The secrets in this environment and in the files that it names, long ones first.

    What is shorter than four letters would star half the log.
    """
    with suppress(SettingsError):  # said by whoever reads the settings
        env = {**env, **secret_files(env)}
    password = urlsplit(env.get("REDIS_URL", "")).password or ""
    found = {*(env.get(name, "").strip() for name in SECRETS), password, unquote(password)}
    found |= {json.dumps(secret, ensure_ascii=False)[1:-1] for secret in found}  # as they look inside JSON
    return sorted((secret for secret in found if len(secret) >= 4), key=len, reverse=True)


class _Form(logging.Formatter, ABC):
    """What both forms share: the time in UTC, and the stars."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, process: str, hidden: list[str]):
        super().__init__()
        self.converter = time.gmtime
        self.process = process
        self._hidden = re.compile("|".join(map(re.escape, hidden))) if hidden else None

    def format(self, record: logging.LogRecord) -> str:
        """The line (more than one only where a traceback belongs to it)."""
        line = self.line(record)
        return self._hidden.sub(STARS, line) if self._hidden else line

    @abstractmethod
    def line(self, record: logging.LogRecord) -> str:
        """The line, its secrets still in it."""

    def traceback(self, record: logging.LogRecord) -> str:
        """The traceback of what was raised, empty when nothing was."""
        return self.formatException(record.exc_info) if record.exc_info else ""


class Lines(_Form):
    """2026-01-31T12:00:00.000Z INFO worker backend.worker [project 1 task 7 job p1-t7-..]: moai found in 1.20 s."""

    def line(self, record: logging.LogRecord) -> str:
        """One line for people."""
        fields = _job.get()
        about = f" [{' '.join(f'{name} {value}' for name, value in fields.items())}]" if fields else ""
        head = f"{self.formatTime(record)} {record.levelname} {self.process} {record.name}{about}"
        return "\n".join(part for part in (f"{head}: {_one_line(record.getMessage())}", self.traceback(record)) if part)


def _one_line(message: str) -> str:
    """Line breaks and control characters written out: what a task holds must not look like a line of ours."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in message)


class JSONLines(_Form):
    """{"time": .., "level": .., "process": .., "logger": .., "message": .., "project": .., "task": .., "job": ..}."""

    def line(self, record: logging.LogRecord) -> str:
        """One JSON object; `traceback` is there only after an exception, the job's fields only during a job."""
        fields: dict[str, object] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "process": self.process,
            "logger": record.name,
            "message": record.getMessage(),
            **(_job.get() or {}),
        }
        if record.exc_info:
            fields["traceback"] = self.traceback(record)
        return json.dumps(fields, ensure_ascii=False)
