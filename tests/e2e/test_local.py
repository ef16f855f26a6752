"""`python -m backend up`, as a person starts it: everything comes up, pre-labels, goes away, and comes back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests
from redis import Redis

from backend.local.demo_project import BACKEND_TITLE, EXPRESSIONS, LANDMARKS, load_scenes
from backend.local.marks import marked, stop_marked
from backend.local.ports import any_free_port, is_free
from backend.local.services import ROOT
from backend.studio.client import Studio
from tests.docs.blocks import RUN, START, script
from tests.e2e.support import eventually

Start = Callable[..., "Up"]


class Up:
    """One `python -m backend up`, or `make run`, with what it prints."""

    def __init__(self, folder: Path, command: Sequence[str], env: dict[str, str], root: Path = ROOT) -> None:
        self.folder = folder
        self.output = folder.with_name(f"{folder.name}-{time.monotonic_ns()}.txt")
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                command, cwd=root, env=os.environ | env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def said(self) -> str:
        return self.output.read_text()

    def await_words(self, words: str, seconds: float) -> None:
        def has_come() -> bool:
            assert self.process.poll() is None or words in self.said, self.said
            return words in self.said

        eventually(has_come, seconds, f"{words!r} in\n{self.said}\n")

    @property
    def state(self) -> dict[str, Any]:
        state = json.loads((self.folder / "state.json").read_text())
        assert isinstance(state, dict)
        return state

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop it with a signal, and check that nothing is left of it."""
        self.process.send_signal(number)
        assert self.process.wait(60) == 0, self.said
        self.check_that_nothing_is_left()

    def press_ctrl_c(self) -> None:
        """What a terminal does: everybody in the foreground gets the signal, `make` as well."""
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(60)
        assert "All is stopped" in self.said
        self.check_that_nothing_is_left()

    def check_that_nothing_is_left(self) -> None:
        assert marked(self.folder) == []
        assert not (self.folder / "state.json").exists()
        assert not (self.folder / "env").exists()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Up] = []
    folder = (tmp_path / "run").resolve()

    def start(*arguments: str, **env: str) -> Up:
        command = [sys.executable, "-m", "backend", "up", "--data", str(folder), *arguments]
        started.append(Up(folder, command, env))
        return started[-1]

    yield start
    for up in started:
        up.process.kill()
        up.process.wait()
    stop_marked(folder, grace=5)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The repository as somebody has just checked it out, but for the virtual environments, which are lent."""
    folder = (tmp_path / "checkout").resolve()
    beside = ("__pycache__", ".*_cache", ".git", ".venv*", ".uv", ".run", "out", "site", "secrets", ".hypothesis")
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*beside))
    for name in (".venv", ".venv-label-studio", ".uv"):
        if (ROOT / name).exists():
            (folder / name).symlink_to((ROOT / name).resolve())
    return folder


@pytest.fixture
def make_run(checkout: Path) -> Iterator[Start]:
    """`make run` in the checkout."""
    started: list[Up] = []

    def start(**env: str) -> Up:
        started.append(Up(checkout / ".run", START.split(), env, checkout))
        return started[-1]

    yield start
    for up in started:
        up.process.kill()
        up.process.wait()
    stop_marked(checkout / ".run", grace=5)


def follow(page: Path, checkout: Path) -> None:
    """Run what a page of the documentation shows, as somebody who types it in a second terminal."""
    home = {name: os.environ[name] for name in ("HOME", "PATH", "LANG") if name in os.environ}
    done = subprocess.run(
        ["bash", "-c", script(page)], cwd=checkout, env=home, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{page.name}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


def stored_predictions(studio: Studio, project: int) -> dict[int, list[dict[str, Any]]]:
    """Return the predictions of each task, without what changes by itself: their age in words."""
    stored = {task["id"]: studio.predictions(task["id"]) for task in studio.tasks(project)}
    for predictions in stored.values():
        for prediction in predictions:
            del prediction["created_ago"]
    return stored


@pytest.mark.timeout(1800)
def test_make_run_prelabels_the_pages_can_be_followed_and_the_second_start_keeps_it(
    make_run: Start, checkout: Path
) -> None:
    port, studio_port = any_free_port(), any_free_port()
    arguments = f"--port {port} --label-studio-port {studio_port}"
    up = make_run(ARGS=arguments)
    up.await_words("every task has its masks", 900)

    state = up.state
    token = state["label_studio"].pop("token")
    project = state["label_studio"]["project"]
    assert state["label_studio"] == {"url": f"http://127.0.0.1:{studio_port}", "project": project}
    assert state["backend"] == {"url": f"http://127.0.0.1:{port}", "auth": None}
    assert set(state["pids"]) == {"redis", "label-studio", "backend", "courier", "worker"}
    with Redis.from_url(state["redis"]["url"]) as redis:
        assert redis.ping()
    assert f"{state['label_studio']['url']}/projects/{project}/data" in up.said
    assert "\x1b" not in up.said  # no colours into a file

    studio = Studio(state["label_studio"]["url"], token)
    tasks = list(studio.tasks(project))
    images = {demo.title: len(load_scenes(demo.folder).images) for demo in (LANDMARKS, EXPRESSIONS)}
    assert [task["total_predictions"] for task in tasks] == [1] * images[LANDMARKS.title]
    predictions = stored_predictions(studio, project)
    assert len({one["model_version"] for (one,) in predictions.values()}) == 1
    assert sum(bool(one["result"]) for (one,) in predictions.values()) >= 0.8 * len(tasks)
    assert {one["title"]: one["task_number"] for one in studio.projects()} == images
    other = next(one["id"] for one in studio.projects() if one["title"] == EXPRESSIONS.title)
    asked = {task["id"]: {label["value"] for label in task["data"]["labels"]} for task in studio.tasks(other)}
    found = {
        task: {label for one in stored["result"] for label in one["value"]["brushlabels"]}
        for task, (stored,) in stored_predictions(studio, other).items()
    }
    assert all(found[task] <= words for task, words in asked.items())
    assert sum(map(len, found.values())) > len(found)
    (connected,) = studio.backends(project)
    assert (connected["url"], connected["title"], connected["state"]) == (state["backend"]["url"], BACKEND_TITLE, "CO")

    for page in RUN:
        follow(page, checkout)
    for made in ("sample.html", "masks/annotations.json", "found/001.png", "recurrence.png"):
        assert (checkout / made).stat().st_size > 500

    up.press_ctrl_c()
    assert is_free(port)
    assert is_free(studio_port)

    # The second time with another port for the backend: the projects are told.
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        began = time.monotonic()
        again = make_run(ARGS=arguments)
        again.await_words("every task has its masks", 60)
        assert time.monotonic() - began < 45
    assert f"Port {port} is taken" in again.said
    moved_to = again.state["backend"]["url"]
    assert moved_to != state["backend"]["url"]
    assert again.state["label_studio"] == {**state["label_studio"], "token": token}
    assert {one["title"]: one["task_number"] for one in studio.projects()} == images
    assert stored_predictions(studio, project) == predictions
    (connected,) = studio.backends(project)
    assert (connected["url"], connected["state"]) == (moved_to, "CO")
    assert [webhook["url"] for webhook in studio.webhooks(project)] == [f"{moved_to}/webhook"]
    again.press_ctrl_c()


def test_without_label_studio(start: Start) -> None:
    port = any_free_port()
    up = start("--no-label-studio", "--port", str(port), "--workers", "2", LABEL_STUDIO_API_KEY="")
    up.await_words("Settings > Model", 60)
    assert up.state["label_studio"] is None
    assert set(up.state["pids"]) == {"redis", "backend", "courier", "worker-1", "worker-2"}
    assert requests.get(f"http://127.0.0.1:{port}/health", timeout=5).json()["status"] == "UP"
    assert "Set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY" in up.said

    # A second one in the same folder is refused and does not disturb the first.
    second = start("--no-label-studio", "--port", str(port))
    assert second.process.wait(60) == 1
    assert f"Another run (process {up.process.pid}) is using" in second.said
    assert up.process.poll() is None

    # What dies is started again, and said.
    before = up.state["pids"]["courier"]
    assert "stopped" not in up.said
    os.kill(before, signal.SIGKILL)
    eventually(lambda: up.state["pids"]["courier"] != before, 30, "a new courier")
    assert "courier has stopped (signal SIGKILL)" in up.said
    up.stop()


def test_after_a_crash(start: Start) -> None:
    arguments = ("--no-label-studio", "--port", str(any_free_port()))
    crashed = start(*arguments)
    crashed.await_words("Settings > Model", 60)
    left = crashed.state
    crashed.process.kill()
    crashed.process.wait()
    assert marked(crashed.folder) != []

    up = start(*arguments)
    up.await_words("Settings > Model", 60)
    assert "Stopped" in up.said
    assert "that an earlier run had left behind" in up.said
    assert up.state["backend"] == left["backend"]  # the port is free again
    assert not set(left["pids"].values()) & set(up.state["pids"].values())
    up.stop(signal.SIGHUP)


def test_a_second_ctrl_c_does_not_wait(start: Start) -> None:
    up = start("--no-label-studio", "--port", str(any_free_port()))
    up.await_words("Settings > Model", 60)
    os.kill(up.state["pids"]["courier"], signal.SIGSTOP)  # it won't stop when asked to
    up.process.send_signal(signal.SIGINT)
    up.await_words("Press Ctrl-C again", 10)
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(5) == 0
    assert marked(up.folder) == []


def test_with_a_password(start: Start) -> None:
    up = start("--no-label-studio", "--port", str(any_free_port()), BASIC_AUTH_USER="me", BASIC_AUTH_PASS="secret")
    up.await_words("Settings > Model", 60)
    assert up.state["backend"]["auth"] == {"user": "me", "password": "secret"}
    up.stop()
