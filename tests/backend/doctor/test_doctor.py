"""The doctor on a set-up that works, and on the same with one thing broken at a time."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis
from werkzeug.serving import make_server

from backend import store
from backend.__main__ import main
from backend.app import create_app
from backend.doctor.inside import own_version
from backend.doctor.studio import NEEDED
from backend.local.ports import any_free_port
from backend.queue import queues
from backend.settings import load_settings
from backend.status import reports
from backend.status.reports import Reporter
from backend.studio.client import SECRET_HEADER, secret_of
from tests.backend.refusing import WAYS
from tests.conftest import RedisProcess
from tests.load.stub_api import StudioHandler
from tests.load.stub_http import Server
from tests.load.stub_studio import CONFIG, PROJECT, TOKEN, StubStudio

AUTH = ("annotators", "correct horse")


class Handler(StudioHandler):
    """The load tests' stub, with what the doctor looks at besides."""

    def do_GET(self) -> None:
        if urlsplit(self.path).path == "/health":
            self._send(200, {"status": "UP"})
        else:
            super().do_GET()

    def _answer(self, path: str, body: bytes) -> tuple[int, Any]:
        studio = self.server.studio
        assert isinstance(studio, Studio)
        assert self.command == "GET", "the doctor changes nothing"
        answers = {
            f"/api/projects/{PROJECT}/": {"id": PROJECT, "title": "Landmarks", "label_config": studio.config},
            "/api/ml/": studio.backends,
            "/api/webhooks/": studio.webhooks,
            "/api/tasks/": {"tasks": studio.tasks, "total": len(studio.tasks)},
        }
        return (200, answers[path]) if path in answers else super()._answer(path, body)


class Studio(StubStudio):
    """One project with one task, connected to a backend."""

    def __init__(self, port: int, backend_url: str):
        super().__init__(port)
        self.shelf.add_tasks(7)
        self.tasks = [self.task(7)]
        self.backends: list[dict[str, Any]] = [
            {
                "id": 1,
                "url": backend_url,
                "state": "CO",
                "auth_method": "BASIC_AUTH",
                "basic_auth_user": AUTH[0],
                "model_version": "car-demo-1",
                "error_message": None,
            }
        ]
        self.webhooks: list[dict[str, Any]] = [
            {
                "id": 1,
                "url": f"{backend_url}/webhook",
                "is_active": True,
                "send_payload": True,
                "send_for_all_actions": True,
                "actions": [],
                "headers": {SECRET_HEADER: secret_of(AUTH)},
            }
        ]

    def back(self) -> None:
        self._server = Server(("127.0.0.1", self.port), Handler, self)
        self._server.serve_in_thread()


@dataclass
class World:
    """Everything that the doctor looks at."""

    env: Callable[[str, str], None]
    redis_process: RedisProcess
    redis: Redis
    studio: Studio
    web_url: str
    worker: Reporter
    memories: Path
    arguments: list[str] = field(default_factory=lambda: ["--project", str(PROJECT)])

    def backend(self, **fields: Any) -> None:
        """Change what Label Studio knows of the backend."""
        self.studio.backends[0].update(fields)

    def webhook(self, **fields: Any) -> None:
        self.studio.webhooks[0].update(fields)

    def remembers(self, setting: str, content: bytes) -> None:
        """Have the labeling config name a memory whose file is something."""
        (self.memories / f"{setting.partition('#')[0]}.safetensors").write_bytes(content)
        self.studio.config = CONFIG.replace("<BrushLabels", f'<BrushLabels car_memory="{setting}"')

    def image(self, url: str) -> None:
        self.studio.tasks[0]["data"]["image"] = url

    def web(self, **settings: Any) -> None:
        """Restart the web process with other settings."""
        create_app(load_settings().model_copy(update=settings))

    def worker_says(self, version: str = "", error: str = "") -> None:
        """Another worker in the place of the one that is well."""
        self.redis.flushdb()
        self.redis.set(store.COURIER, "c")
        other = Reporter(self.redis, "demo", version or self.worker._report.version)
        other.broken(error) if error else other.rest()


@pytest.fixture
def world(own_redis: RedisProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    studio_port, web_port = any_free_port(), any_free_port()
    web_url = f"http://127.0.0.1:{web_port}"
    variables = {
        "REDIS_URL": own_redis.url,
        "LABEL_STUDIO_URL": f"http://127.0.0.1:{studio_port}",
        "LABEL_STUDIO_API_KEY": TOKEN,
        "BASIC_AUTH_USER": AUTH[0],
        "BASIC_AUTH_PASS": AUTH[1],
        "CAR_MEMORY": str(tmp_path),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("backend.doctor.examine.DEFAULT_URL", "http://127.0.0.1:1")
    server = make_server("127.0.0.1", web_port, create_app(load_settings()), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    studio = Studio(studio_port, web_url)
    studio.back()
    with Redis.from_url(own_redis.url) as redis:
        redis.set(store.COURIER, "c")
        worker = Reporter(redis, "demo", own_version(load_settings()))
        worker.rest()
        yield World(monkeypatch.setenv, own_redis, redis, studio, web_url, worker, tmp_path)
    server.shutdown()
    server.server_close()
    studio.gone()


def examine(world: World, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, str]]]:
    code = main(["doctor", "--json", *world.arguments])
    return code, json.loads(capsys.readouterr().out)


def test_on_a_set_up_that_works_it_finds_no_problem(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code, findings = examine(world, capsys)
    assert (code, [one for one in findings if one["verdict"] == "problem"]) == (0, [])
    told = {one["check"]: one["detail"] for one in findings}
    assert told["token"] == "legacy token of stub@example.com"
    assert told["image"].startswith("task 7: ")
    assert told["labeling config"] == "3 labels, preset demo"
    assert {"redis keeps all", "redis has room", "weights", "courier", "webhook", "connection", "disk"} <= set(told)
    docs = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    rows = [row.split(" | ")[0].removeprefix("| ") for row in docs.splitlines() if row.startswith("| ")]
    assert set(told) <= {name for row in rows for name in row.split(", ")}
    assert TOKEN not in str(findings)
    assert AUTH[1] not in str(findings)


def access_token() -> str:
    claims = base64.urlsafe_b64encode(b'{"token_type": "access"}').decode().rstrip("=")
    return f"head.{claims}.signature"


def nearly_full(world: World) -> None:
    world.redis.set("ballast", b"x" * 2**24)  # so that what is left suffices for connections
    world.redis.config_set("maxmemory", int(world.redis.info("memory")["used_memory"] * 1.05))


def evicting(world: World) -> None:
    world.redis.config_set("maxmemory", 2**30)
    world.redis.config_set("maxmemory-policy", "allkeys-lru")


def say(world: World, *arguments: str) -> None:
    world.arguments = [*arguments]


# name: (what is broken, the checks that say "problem", words of the cause, words of the fix)
BROKEN: dict[str, tuple[Callable[[World], Any], set[str], str, str]] = {
    "unknown preset": (
        lambda w: w.env("CAR_PRESET", "foto"),
        {"settings"},
        "no preset 'foto'",
        "Correct or unset CAR_PRESET",
    ),
    "misspelt setting": (
        lambda w: w.env("CAR_PRESSET", "photos"),
        {"settings"},
        "CAR_PRESSET is set",
        "Did you mean CAR_PRESET?",
    ),
    "redis at another port": (
        lambda w: w.env("REDIS_URL", "redis://:hush@127.0.0.1:1/0"),
        {"redis"},
        "redis://127.0.0.1:1/0 does not answer",
        "correct REDIS_URL",
    ),
    "no redis url": (
        lambda w: w.env("REDIS_URL", "localhost:6379"),
        {"redis"},
        "must specify one of the following schemes",
        "must look like redis://",
    ),
    "redis wants a password": (
        lambda w: w.redis.config_set("requirepass", "hush"),
        {"redis", "web process"},
        "wants a password",
        "Put its password into REDIS_URL",
    ),
    "redis forgets": (
        lambda w: w.redis.config_set("appendonly", "no"),
        {"redis keeps all"},
        "a restart forgets queued jobs",
        "--appendonly yes",
    ),
    "redis drops": (evicting, {"redis has room"}, "allkeys-lru", "maxmemory-policy noeviction"),
    "redis is full": (nearly_full, {"redis has room"}, "MB are in use", "Raise maxmemory"),
    "redis is a replica": (
        lambda w: WAYS["READONLY"][0](w.redis),
        {"redis takes writes", "web process"},
        "It refuses them: You can't write against a read only replica",
        "Point REDIS_URL at the primary",
    ),
    "redis has lost its replicas": (
        lambda w: WAYS["NOREPLICAS"][0](w.redis),
        {"redis takes writes", "web process"},
        "/health says 503: Redis at REDIS_URL refuses writes (NOREPLICAS",
        "Do what it says",
    ),
    "no worker": (
        lambda w: w.redis.delete(store.WORKERS),
        {"workers"},
        "None is alive",
        "python -m backend worker",
    ),
    "no weights": (
        lambda w: w.worker_says(error="ViT-B-16 is missing; put it into /models"),
        {"workers", "weights"},
        "ViT-B-16 is missing",
        "start the worker again",
    ),
    "worker of another release": (
        lambda w: w.worker_says(version="car-demo-old"),
        {"same version"},
        "car-demo-old",
        "from one release",
    ),
    "no courier": (lambda w: w.redis.delete(store.COURIER), {"courier"}, "nothing is delivered", "backend courier"),
    "paused": (lambda w: queues.pause(w.redis, 4), {"pause"}, "Project 4 is paused", "python -m backend resume"),
    "label studio down": (
        lambda w: w.studio.gone(),
        {"label studio"},
        "does not answer",
        "set LABEL_STUDIO_URL to its address",
    ),
    "label studio is something else": (
        lambda w: w.env("LABEL_STUDIO_URL", w.web_url),
        {"label studio"},
        "not as Label Studio does",
        "LABEL_STUDIO_URL",
    ),
    "wrong token": (
        lambda w: w.env("LABEL_STUDIO_API_KEY", "of-yesterday"),
        {"token"},
        "doesn't accept LABEL_STUDIO_API_KEY (401: Invalid token",
        "Make a personal access token",
    ),
    "no token": (
        lambda w: w.env("LABEL_STUDIO_API_KEY", ""),
        {"token"},
        "LABEL_STUDIO_API_KEY isn't set",
        "Make a personal access token",
    ),
    "a token for minutes": (
        lambda w: w.env("LABEL_STUDIO_API_KEY", access_token()),
        {"token"},
        "expires after minutes",
        "Make a personal access token",
    ),
    "no such project": (lambda w: say(w, "--project", "99"), {"project"}, "no project 99", "may see it"),
    "config without masks": (
        lambda w: setattr(w.studio, "config", '<View><Image name="i" value="$image"/></View>'),
        {"labeling config"},
        "no <BrushLabels> tag",
        "Labeling Interface",
    ),
    "skipped": (
        lambda w: setattr(w.studio, "config", CONFIG.replace("toName", 'model_skip="true" toName')),
        {"labeling config"},
        "no predictions are made",
        "Take the attribute away",
    ),
    "not connected": (
        lambda w: w.studio.backends.clear(),
        {"connection"},
        "no ML backend",
        "LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS=false",
    ),
    "connected elsewhere": (
        lambda w: say(w, "--project", "1", "--url", w.web_url) or w.backend(url="http://old:9090"),
        {"connection", "webhook"},
        "The project's ML backend is http://old:9090",
        "Connect Model",
    ),
    "label studio cannot reach us": (
        lambda w: w.backend(state="DI"),
        {"connection"},
        "Label Studio does not reach",
        "/health must answer with the password",
    ),
    "label studio sends no password": (
        lambda w: w.backend(auth_method="NONE", state="DI"),
        {"connection"},
        "sends no password",
        "Basic Authentication, user annotators",
    ),
    "label studio sends another user": (
        lambda w: w.backend(basic_auth_user="root", state="DI"),
        {"connection"},
        "'root'",
        "user annotators",
    ),
    "the config is refused": (
        lambda w: w.backend(state="ER", error_message="Two labels have the same value"),
        {"connection"},
        "Two labels have the same value",
        "Correct what it says",
    ),
    "no webhook": (
        lambda w: w.studio.webhooks.clear(),
        {"webhook"},
        "the courier finds imports by comparison only",
        "Settings > Webhooks",
    ),
    "no webhook, as its host has no dot": (
        lambda w: (w.studio.webhooks.clear(), w.backend(url="http://backend:9090")),
        {"webhook", "web process"},  # nothing answers at that address here
        "a host without a dot",
        "http://backend.car.internal:9090",
    ),
    "webhook without secret": (
        lambda w: w.webhook(headers={}),
        {"webhook"},
        "lacks our X-CaR-Secret",
        "python -m backend courier",
    ),
    "webhook off": (lambda w: w.webhook(is_active=False), {"webhook"}, "switched off", "switch it on"),
    "webhook for annotations only": (
        lambda w: w.webhook(send_for_all_actions=False, actions=["ANNOTATION_CREATED"]),
        {"webhook"},
        "lacks TASKS_CREATED, TASKS_DELETED, PROJECT_UPDATED, ANNOTATION_UPDATED",
        "Send for all actions",
    ),
    "webhook without corrections": (
        lambda w: w.webhook(send_for_all_actions=False, actions=sorted(set(NEEDED) - {"ANNOTATIONS_DELETED"})),
        {"webhook"},
        "lacks ANNOTATIONS_DELETED, so that corrections are not compared",
        "tick those too",
    ),
    "webhook without tasks": (
        lambda w: w.webhook(send_payload=False),
        {"webhook"},
        "without the tasks",
        "send the payload",
    ),
    "another memory": (
        lambda w: w.remembers("demo#0123456789abcdef", b"another file"),
        {"corrected regions"},
        "0123456789abcdef is asked for",
        "CAR_MEMORY",
    ),
    "image gone": (lambda w: w.image("/data/nowhere.png"), {"image"}, "Task 7: ", "is the image there?"),
    "no field for the image": (
        lambda w: w.studio.tasks[0].update(data={"photo": "a.png"}),
        {"image"},
        "no image address in its field 'image'",
        "Open the task",
    ),
    "image in a private network": (
        lambda w: w.image("http://127.0.0.1:1/a.png"),
        {"image"},
        "CAR_ALLOWED_HOSTS",
        "see what the reason names",
    ),
    "everybody allowed": (
        lambda w: w.env("CAR_ALLOWED_HOSTS", "minio,0.0.0.0/0"),
        {"private addresses"},
        "169.254.169.254",
        "Name only the hosts",
    ),
    "an allowed host with its port": (
        lambda w: w.env("CAR_ALLOWED_HOSTS", "http://minio:9000"),
        {"private addresses"},
        "no host is ever equal to",
        "Write the host alone, without scheme, port or path: minio.",
    ),
    "web process down": (
        lambda w: w.backend(url="http://127.0.0.1:1") or w.webhook(url="http://127.0.0.1:1/webhook"),
        {"web process"},
        "http://127.0.0.1:1/health does not answer",
        "python -m backend serve",
    ),
    "web process with another password": (
        lambda w: w.web(basic_auth_user="others"),
        {"web process"},
        "another password",
        "same BASIC_AUTH_USER and BASIC_AUTH_PASS",
    ),
    "web process with another preset": (
        lambda w: w.web(car_preset="photos"),
        {"web's version"},
        "car-photos-",
        "same CAR_PRESET",
    ),
    "web process at another redis": (
        lambda w: w.web(redis_url="redis://127.0.0.1:1/0"),
        {"web process"},
        "says 503",
        "REDIS_URL of the web process",
    ),
    "something else where the web process should be": (
        lambda w: say(w, "--url", f"http://127.0.0.1:{w.studio.port}"),
        {"web process"},
        "Something else than the backend answers",
        "--url http://HOST:PORT",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_it_names_what_is_broken_and_the_fix(name: str, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    break_it, checks, cause, fix = BROKEN[name]
    break_it(world)
    code, findings = examine(world, capsys)
    problems = [one for one in findings if one["verdict"] == "problem"]
    assert code == 1
    assert {one["check"] for one in problems} == checks
    named = [one for one in problems if cause in one["detail"]]
    assert named, problems
    assert fix in named[0]["fix"]
    assert "hush" not in str(findings)


def test_people_get_lines(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.redis.delete(store.COURIER)
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    at = next(place for place, line in enumerate(lines) if line.startswith("problem"))
    assert lines[at].split(maxsplit=2)[1:] == ["courier", "None is at work, so nothing is delivered."]
    assert lines[at + 1].strip() == "-> Start python -m backend courier."
    assert sum(line.startswith("cannot tell  project") for line in lines) == 1


def test_a_worker_that_loads_is_alive_but_cannot_tell_of_weights(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.redis.delete(store.WORKERS)
    Reporter(world.redis, "demo", own_version(load_settings())).send()
    code, findings = examine(world, capsys)
    verdicts = {one["check"]: one["verdict"] for one in findings}
    assert (code, verdicts["workers"], verdicts["weights"]) == (0, "ok", "cannot tell")
    assert len(reports.read(world.redis)) == 1


def test_it_needs_no_torch() -> None:
    script = "import sys; import backend.commands.doctor; print('torch' in sys.modules, 'cv2' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said == "False False\n"
