"""The real thing for end-to-end tests: Label Studio, the backend's processes, projects, and waiting for something.

Everything is started by the same code as `make run` (backend/local), in folders and on ports of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import requests

from backend.local import label_studio, redis_server, services
from backend.local.console import Console
from backend.local.demo_project import BACKEND_TITLE, labeling_config, load_scenes
from backend.local.ports import any_free_port
from backend.local.processes import LocalError, Program, Supervisor
from backend.studio.client import Studio
from tests.weights import CLIP

T = TypeVar("T")

SCENES = services.ROOT / "model" / "demo" / "scenes" / "studio"
"""Their truth is known, and what the shipped weights make of them."""

STARTED: list[Supervisor] = []
"""Whoever supervises processes now; their logs are shown with a test that fails."""


def run_command(
    name: str,
    *arguments: str,
    studio: LabelStudio,
    backend: Backend | None = None,
    timeout: float | None = None,
    **env: str,
) -> subprocess.CompletedProcess[str]:
    """`python -m backend NAME ...` as an operator of these would run it."""
    known = {
        "LABEL_STUDIO_URL": studio.url,
        "LABEL_STUDIO_API_KEY": studio.account.token,
        "CAR_WEIGHTS": str(CLIP),
    }
    if backend is not None:
        known["REDIS_URL"] = backend.redis_url
    return subprocess.run(
        [sys.executable, "-m", "backend", name, *arguments],
        env={**os.environ, **known, **env},
        cwd=services.ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def eventually(condition: Callable[[], T], seconds: float = 60, what: str = "it", every: float = 0.2) -> T:
    """Return the first true value of the condition; fail after so many seconds, saying what was waited for."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} has not come about within {seconds:g} s; last value: {value!r}"
        time.sleep(every)
    return value


def new_supervisor(folder: Path) -> Supervisor:
    supervisor = Supervisor(folder, Console(StringIO()))
    STARTED.append(supervisor)
    return supervisor


@dataclass
class LabelStudio:
    """A running Label Studio with one user, who may have both kinds of token."""

    program: Program
    supervisor: Supervisor
    port: int
    account: label_studio.Account
    studio: Studio = field(init=False)

    def __post_init__(self) -> None:
        self.url = label_studio.url(self.port)
        self.studio = Studio(self.url, self.account.token)

    def start(self) -> None:
        self.supervisor.start(self.program)
        self.supervisor.wait(lambda: label_studio.answers(self.url), "label-studio", label_studio.FIRST_START)

    @contextmanager
    def down(self) -> Iterator[None]:
        """Have Label Studio stopped for a while, and running again after that."""
        self.supervisor.stop("label-studio")
        try:
            yield
        finally:
            self.start()

    def logged_in(self) -> requests.Session:
        """Return a browser-like session of the user, with the CSRF header set for requests that change something."""
        session = requests.Session()
        page = session.get(f"{self.url}/user/login/", timeout=30).text
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert found is not None
        form = {"email": self.account.email, "password": self.account.password, "csrfmiddlewaretoken": found[1]}
        session.post(f"{self.url}/user/login/", data=form, headers={"Referer": self.url}, timeout=30)
        session.headers.update({"X-CSRFToken": session.cookies["csrftoken"], "Referer": self.url})
        return session

    def new_personal_access_token(self) -> str:
        """Return a personal access token; an earlier one of the user is revoked (Label Studio 1.23 allows one)."""
        with self.logged_in() as session:
            settings = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": True}
            session.post(f"{self.url}/api/jwt/settings", json=settings, timeout=30).raise_for_status()
            made = session.post(f"{self.url}/api/token/", timeout=30)
            if made.status_code == 409:
                for known in session.get(f"{self.url}/api/token/", timeout=30).json():
                    refresh = {"refresh": known["token"]}
                    session.post(f"{self.url}/api/token/blacklist/", json=refresh, timeout=30).raise_for_status()
                made = session.post(f"{self.url}/api/token/", timeout=30)
            made.raise_for_status()
            return str(made.json()["token"])

    def retrieve_predictions(self, project: int, tasks: Sequence[int] | None = None) -> None:
        """Do what the Data Manager's "Retrieve predictions" does, for these tasks or for all."""
        chosen = {"all": True, "excluded": []} if tasks is None else {"all": False, "included": list(tasks)}
        self._action(project, "retrieve_tasks_predictions", chosen)

    def delete_tasks(self, project: int) -> None:
        """Do what the Data Manager's "Delete tasks" does, for all tasks."""
        self._action(project, "delete_tasks", {"all": True, "excluded": []})

    def delete_predictions(self, project: int) -> None:
        """Do what the Data Manager's "Delete predictions" does, for all tasks."""
        self._action(project, "delete_tasks_predictions", {"all": True, "excluded": []})

    def _action(self, project: int, name: str, chosen: Mapping[str, Any]) -> None:
        params = {"id": name, "project": project}
        body = {"selectedItems": chosen, "project": project}
        self.studio.session.send("POST", "/api/dm/actions", params=params, json=body, timeout=180)

    def open_task(self, task: int) -> dict[str, Any]:
        """Read a task as an annotator who opens it: Label Studio asks the backend when it has no prediction."""
        found = self.studio.task(task)
        assert found is not None
        return found

    def next_task(self, project: int) -> dict[str, Any]:
        """Return what the label stream shows next."""
        shown = self.studio.session.get(f"/api/projects/{project}/next/", timeout=180)
        assert isinstance(shown, dict)
        return shown


@dataclass
class Backend:
    """The backend's processes with a Redis of their own: `backend`, `courier`, and `worker` or `worker-1`, ..."""

    url: str
    redis_url: str
    supervisor: Supervisor
    programs: dict[str, Program]
    auth: tuple[str, str] | None = None

    def start(self, name: str) -> None:
        """Start a process that was stopped."""
        self.supervisor.start(self.programs[name])
        if name == "backend":
            self.supervisor.wait(lambda: label_studio.answers(self.url, self.auth), name, 60)

    def stop(self, name: str) -> None:
        """Stop a process as `make run` does, and keep it stopped."""
        self.supervisor.stop(name)

    @contextmanager
    def without(self, *names: str) -> Iterator[None]:
        """Have processes stopped for a while, and running again after that."""
        for name in names:
            self.stop(name)
        try:
            yield
        finally:
            for name in names:
                self.start(name)

    def pid(self, name: str) -> int:
        return self.supervisor.pids[name]

    def log(self, name: str) -> str:
        return self.supervisor.log(name).read_text()


def start_label_studio(folder: Path) -> LabelStudio:
    """Start a Label Studio with a user of its own."""
    port, account = any_free_port(), label_studio.new_account()
    command = label_studio.find_label_studio(services.ROOT)
    program = label_studio.program(command, folder, port, account)
    running = LabelStudio(program, new_supervisor(folder), port, account)
    try:
        running.start()
    except LocalError:
        running.supervisor.stop_all()
        raise
    return running


def start_backend(
    folder: Path, studio_url: str, api_key: str, workers: int = 1, latency: float | None = None, **env: str
) -> Backend:
    """Start Redis, the web service, a courier and workers, with `env` on top of what `make run` gives them.

    With `latency` the workers draw the same two shapes into every image, after so many seconds, instead of asking a
    model (tests/load/null_worker.py).
    """
    supervisor = new_supervisor(folder)
    redis_port, port = any_free_port(), any_free_port()
    redis_url, url = redis_server.url(redis_port), label_studio.url(port)
    environment = services.environment(redis_url, studio_url, api_key) | {"CAR_WEIGHTS": str(CLIP)} | env
    redis = redis_server.program(redis_server.find_server(), folder / "redis", redis_port, dict(os.environ))
    supervisor.start(redis)
    supervisor.wait(lambda: redis_server.answers(redis_url), "redis", 30)
    programs = {program.name: program for program in services.programs(environment, port, workers)}
    if latency is not None:
        command = (sys.executable, "-m", "tests.load.null_worker", "--latency", str(latency))
        programs |= {name: replace(one, command=command) for name, one in programs.items() if "worker" in name}
    auth = (env["BASIC_AUTH_USER"], env["BASIC_AUTH_PASS"]) if "BASIC_AUTH_USER" in env else None
    backend = Backend(url, redis_url, supervisor, {"redis": redis, **programs}, auth)
    try:
        for name in programs:
            backend.start(name)
    except LocalError:
        supervisor.stop_all(last="redis")
        raise
    return backend


@dataclass(frozen=True)
class Project:
    """A project of the real Label Studio with images of the demo world."""

    id: int
    studio: Studio

    def tasks(self) -> list[dict[str, Any]]:
        return list(self.studio.tasks(self.id))

    def predictions(self) -> dict[int, list[dict[str, Any]]]:
        """Return the predictions of each task, with their results."""
        return {task["id"]: self.studio.predictions(task["id"]) for task in self.tasks()}

    def counts(self) -> list[int]:
        """Return how many predictions each task has, by rising task id.

        Counted from the predictions themselves: Label Studio 1.23's own `total_predictions` may be out of date.
        """
        return [len(stored) for stored in self.predictions().values()]

    def add_images(self, paths: Sequence[Path]) -> list[int]:
        """Upload images in one call and return the ids of their tasks."""
        last = max((task["id"] for task in self.tasks()), default=0)
        with ExitStack() as opened:
            files = [(path.name, (path.name, opened.enter_context(path.open("rb")))) for path in paths]
            self.studio.session.send("POST", f"/api/projects/{self.id}/import", files=files, timeout=60)
        return [task["id"] for task in self.studio.tasks(self.id, after=last)]

    def await_predictions(self, seconds: float = 120, each: int = 1) -> None:
        """Wait until every task has a prediction, and check that none has more than `each`."""
        enough = f"{each} for every task of project {self.id}"
        eventually(lambda: min(self.counts()) >= each, seconds, enough, every=0.5)
        assert set(self.counts()) == {each}


def make_project(studio: Studio, backend_url: str | None = None, title: str = "A test", **options: Any) -> Project:
    """Create a project, connected to the backend if one is given.

    `options`: `label_config`, or `labels` for one of our own making (default: the demo's); `auth` of the backend, and
    whether it is `interactive`; anything else is a field of the project.
    """
    auth, interactive = options.pop("auth", None), options.pop("interactive", False)
    chosen = tuple(options.pop("labels", ())) or load_scenes(SCENES).labels
    config = options.pop("label_config", None) or labeling_config(chosen)
    project = Project(studio.create_project(title, config, **options), studio)
    if backend_url is not None:
        studio.connect_backend(project.id, backend_url, BACKEND_TITLE, auth, is_interactive=interactive)
    return project
