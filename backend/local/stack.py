"""All of a local run, in the order in which it comes up."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from backend.local import demo_project, label_studio, redis_server, services
from backend.local.console import BOLD, GREEN, Console
from backend.local.marks import stop_marked
from backend.local.ports import free_port
from backend.local.processes import Supervisor
from backend.local.run_folder import Memory, locked, write_env, write_private
from backend.settings import load_settings
from backend.studio.client import Studio, StudioUnavailable

REDIS_PORT = 6390
"""Where the search for a port for our own Redis begins: beside 6379, which others use."""

PATIENCE = 90.0
"""Seconds without a new prediction after which `up` stops showing progress and says where to look."""


@dataclass(frozen=True)
class Options:
    """What `python -m backend up` was asked for."""

    folder: Path
    port: int = 9090
    label_studio_port: int = 8080
    workers: int = 1
    with_label_studio: bool = True


class Stack:
    """Redis, Label Studio, the backend and its workers; `run` brings them up and keeps them running."""

    def __init__(self, options: Options, console: Console) -> None:
        self.options = options
        self.folder = options.folder.resolve()
        self.console = console
        self.supervisor = Supervisor(self.folder, console)
        self.state: dict[str, Any] = {}
        self._written: dict[str, Any] = {}
        self._ports: set[int] = set()
        self._is_stopping = False

    def run(self) -> None:
        """Bring everything up and keep it so until SIGINT, SIGTERM or SIGHUP; then stop everything.

        Raises LocalError when something doesn't come up; everything is stopped then, too.
        """
        with locked(self.folder):
            self._clear_leftovers()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, self._on_signal)
            try:
                self._bring_up()
                while True:
                    self.supervisor.check()
                    self._write_state()
                    time.sleep(0.2)
            except KeyboardInterrupt:
                self.console.say("\nStopping. Press Ctrl-C again to stop by force.")
            finally:
                self._is_stopping = True
                self.supervisor.stop_all(last="redis")
                self._forget_state()
            self.console.say(f"All is stopped. What was done is kept in {self.folder}.")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._is_stopping:
            self.supervisor.hurry = True
        else:
            self._is_stopping = True
            raise KeyboardInterrupt

    def _clear_leftovers(self) -> None:
        """Stop what a run that was killed has left behind: it would hold the ports and write into our files."""
        self._forget_state()
        if stopped := stop_marked(self.folder, grace=10):
            self.console.warn(f"Stopped {stopped} processes that an earlier run had left behind.")

    def _bring_up(self) -> None:
        began = time.monotonic()
        memory = Memory.load(self.folder).save(self.folder)
        redis_url = self._start_redis()
        studio_url = self._start_label_studio(memory) if self.options.with_label_studio else ""
        backend_url = self._start_backend(redis_url, studio_url, memory)
        if studio_url:
            self._await_label_studio(studio_url, memory)
        self.supervisor.wait(
            lambda: label_studio.answers(backend_url, _auth()),
            "backend",
            60,
            progress=lambda passed: f"The backend starts ... {passed:.0f} s",
        )
        self.console.say(f"The backend answers at {backend_url}.")
        self.state = {
            "label_studio": None,
            "backend": {"url": backend_url, "auth": _shown_auth()},
            "redis": {"url": redis_url},
        }
        self._write_env(redis_url, studio_url, memory)
        if studio_url:
            self._prepare_projects(memory, studio_url, backend_url, began)
        else:
            self._write_state()
            self._say_how_to_connect(backend_url)

    def _port(self, wanted: int, whose: str) -> int:
        port = free_port(wanted, self._ports)
        self._ports.add(port)
        if port != wanted:
            self.console.warn(f"Port {wanted} is taken: {whose} listens on {port}.")
        return port

    def _start_redis(self) -> str:
        server = redis_server.find_server()
        port = free_port(REDIS_PORT, self._ports)
        self.supervisor.start(redis_server.program(server, self.folder / "redis", port, dict(os.environ)))
        url = redis_server.url(port)
        self.supervisor.wait(lambda: redis_server.answers(url), "redis", 60)
        self.console.say(f"Redis answers at {url}.")
        return url

    def _start_label_studio(self, memory: Memory) -> str:
        command = label_studio.find_label_studio(services.ROOT)
        port = self._port(self.options.label_studio_port, "Label Studio")
        self.supervisor.start(label_studio.program(command, self.folder / "label-studio", port, memory.account))
        return label_studio.url(port)

    def _start_backend(self, redis_url: str, studio_url: str, memory: Memory) -> str:
        port = self._port(self.options.port, "the backend")
        env = services.environment(redis_url, studio_url, memory.account.token)
        for program in services.programs(env, port, self.options.workers):
            self.supervisor.start(program)
        return label_studio.url(port)

    def _await_label_studio(self, url: str, memory: Memory) -> None:
        doing = "starts" if memory.demos else "makes its database, about half a minute"
        self.supervisor.wait(
            lambda: label_studio.answers(url),
            "label-studio",
            label_studio.FIRST_START,
            progress=lambda passed: f"Label Studio {doing} ... {passed:.0f} s",
        )
        self.console.say(f"Label Studio answers at {url}.")

    def _prepare_projects(self, memory: Memory, studio_url: str, backend_url: str, began: float) -> None:
        """Have the demo projects there, connected and filled; wait for their masks the first time."""
        studio = Studio(studio_url, memory.account.token)
        if memory.backend_url not in ("", backend_url):
            moved = demo_project.move_backends(studio, memory.backend_url, backend_url, _auth())
            self.console.say(f"The backend has moved to {backend_url}; projects that were told so: {moved}.")
        memory = memory.save(self.folder, backend_url=backend_url)
        for demo in demo_project.PROJECTS:
            memory = self._prepare_project(memory, studio, demo, backend_url)
        main = memory.known(demo_project.LANDMARKS.name).project
        self.state["label_studio"] = {"url": studio_url, "token": memory.account.token, "project": main}
        self._write_state()
        new = {name: known.project for name, known in memory.demos.items() if not known.is_prelabelled}
        left = self._await_predictions(studio, [project for project in new.values() if project]) if new else 0
        for name in new:
            memory = memory.learn(self.folder, name, is_prelabelled=left == 0)
        self._say_where(began, f"{studio_url}/projects/{main}/data", memory.account, left)

    def _prepare_project(
        self, memory: Memory, studio: Studio, demo: demo_project.DemoProject, backend_url: str
    ) -> Memory:
        known = memory.known(demo.name)
        project = demo_project.ensure_project(studio, demo, known.project)
        memory = memory.learn(self.folder, demo.name, project=project)
        # Connected before the import, so that Label Studio tells the backend of the new tasks: that pre-labels them.
        demo_project.ensure_connected(studio, project, backend_url, _auth())
        if not known.has_tasks:
            demo_project.ensure_tasks(studio, demo, project)
        return memory.learn(self.folder, demo.name, has_tasks=True)

    def _await_predictions(self, studio: Studio, projects: Sequence[int]) -> int:
        """Show how the tasks get their predictions; return how many lack one when nothing happens any more."""
        best, since = -1, time.monotonic()
        done, total = 0, 1
        while True:
            with contextlib.suppress(StudioUnavailable):  # it may be busy for a moment
                done, total = demo_project.count_prelabelled(studio, projects)
            if done > best:
                best, since = done, time.monotonic()
            self.console.progress(f"{done} of {total} tasks are pre-labelled")
            if done >= total or time.monotonic() - since > PATIENCE:
                return total - done
            for _ in range(10):
                self.supervisor.check()
                time.sleep(0.2)

    def _say_where(self, began: float, page: str, account: label_studio.Account, left: int) -> None:
        say, paint = self.console.say, self.console.paint
        say()
        if left:
            worker = "worker" if self.options.workers == 1 else "worker-1"
            self.console.warn(f"{left} tasks have no prediction yet.{self.supervisor.log_end(worker)}")
        else:
            say(paint(f"Ready after {time.monotonic() - began:.0f} s: every task has its masks.", GREEN))
        say()
        say(f"  Open      {paint(page, BOLD)}")
        say(f"  Log in    {account.email}   password   {account.password}")
        say("  Look at   any task: the masks are there. Select a region, correct it with the brush (B) or the")
        say("            eraser (E), press Submit.")
        say(f"  Status    {self.state['backend']['url']}")
        say(f"  Commands  . {self._shown('env')} && .venv/bin/python -m backend status")
        say(f"  Logs      {self.supervisor.logs}")
        say("  Stop      Ctrl-C. The next start takes seconds and finds everything as you left it.")

    def _say_how_to_connect(self, backend_url: str) -> None:
        say, paint = self.console.say, self.console.paint
        say()
        say(paint(f"Ready: the backend answers at {backend_url}.", GREEN))
        if not load_settings().label_studio_api_key.get_secret_value():
            self.console.warn(
                "Set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, so that it can read images from your Label Studio and "
                "store predictions there."
            )
        say(f"  Connect   Label Studio, Settings > Model > Connect Model: {backend_url}")
        say(f"  Status    {backend_url}")
        say(f"  Logs      {self.supervisor.logs}")
        say("  Stop      Ctrl-C")

    def _write_state(self) -> None:
        state = {**self.state, "pids": self.supervisor.pids}
        if state != self._written:
            write_private(self.folder / "state.json", state)
            self._written = state

    def _forget_state(self) -> None:
        for name in ("state.json", "env"):
            (self.folder / name).unlink(missing_ok=True)

    def _shown(self, name: str) -> str:
        """A file of the run's folder, as short as it can be written from where we were started."""
        path = self.folder / name
        return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

    def _write_env(self, redis_url: str, studio_url: str, memory: Memory) -> None:
        """For a shell: what `python -m backend` needs to speak to this run."""
        env = services.environment(redis_url, studio_url, memory.account.token)
        names = ("REDIS_URL", "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY", "CAR_PRESET")
        write_env(self.folder / "env", {name: env[name] for name in names if env.get(name)})


def _auth() -> tuple[str, str] | None:
    """Return the user and password that the backend asks for, if it does."""
    return load_settings().auth


def _shown_auth() -> dict[str, str] | None:
    auth = _auth()
    return {"user": auth[0], "password": auth[1]} if auth else None
