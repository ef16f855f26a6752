from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from typing import Any

import pytest

from backend.logs import JSONLines, Lines, about, secrets


def record(message: str, *args: object, error: Exception | None = None) -> logging.LogRecord:
    told: Any = (type(error), error, None) if error else None
    made = logging.LogRecord("backend.worker", logging.WARNING, "worker.py", 1, message, args, told)
    made.created, made.msecs = 1_700_000_000.25, 250.0
    return made


def test_a_line_for_people() -> None:
    form = Lines("worker", [])
    assert form.format(record("no %s", "light")) == "2023-11-14T22:13:20.250Z WARNING worker backend.worker: no light"
    with about(1, 7, "p1-t7-ab"):
        line = form.format(record("no light"))
    assert line == ("2023-11-14T22:13:20.250Z WARNING worker backend.worker [project 1 task 7 job p1-t7-ab]: no light")
    assert form.format(record("over", error=ValueError("x"))).endswith("over\nValueError: x")


def test_a_line_for_machines() -> None:
    form = JSONLines("courier", [])
    with about(1, 7, "p1-t7-ab"):
        line = form.format(record('quote " and\nnewline', error=ValueError("x")))
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "WARNING",
        "process": "courier",
        "logger": "backend.worker",
        "message": 'quote " and\nnewline',
        "project": 1,
        "task": 7,
        "job": "p1-t7-ab",
        "traceback": "ValueError: x",
    }
    assert "\n" not in line
    assert "task" not in json.loads(form.format(record("after the job")))


@pytest.mark.parametrize(
    ("env", "hidden"),
    [
        ({"LABEL_STUDIO_API_KEY": "tok-12345"}, ["tok-12345"]),
        ({"BASIC_AUTH_PASS": "pa:ss"}, ["pa:ss"]),
        ({"BASIC_AUTH_PASS": 'pa"ss'}, ['pa\\"ss', 'pa"ss']),
        ({"REDIS_URL": "redis://:r%40dish@redis:6379/0"}, ["r%40dish", "r@dish"]),
        ({"REDIS_URL": "redis://localhost:6379/0", "BASIC_AUTH_PASS": ""}, []),
        ({"BASIC_AUTH_PASS": "abc"}, []),
    ],
)
@pytest.mark.parametrize("form", [Lines, JSONLines])
def test_secrets_become_stars(env: dict[str, str], hidden: list[str], form: type[Lines]) -> None:
    assert secrets(env) == hidden
    for secret in (one for one in hidden if "\\" not in one):  # those with a backslash are how JSON writes the others
        line = form("worker", secrets(env)).format(record("header: %s!", f"Token {secret}", error=OSError(secret)))
        assert not any(one in line for one in hidden)
        assert "Token ***!" in line


@pytest.mark.parametrize("kind", ["text", "json"])
def test_every_process_writes_it(kind: str) -> None:
    script = (
        "import logging; from backend.logs import configure; configure('serve'); logging.warning('key %s', 'tok-1')"
    )
    env = {**os.environ, "CAR_LOG": kind, "LABEL_STUDIO_API_KEY": "tok-1"}
    said = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True).stderr
    if kind == "json":
        fields = json.loads(said)
        assert (fields["process"], fields["message"]) == ("serve", "key ***")
    else:
        assert said.endswith("WARNING serve root: key ***\n")
