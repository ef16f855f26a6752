"""The status page in a real browser while a real worker is at a real project; and the doctor on the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from backend.local.demo_project import Scenes
from tests.e2e.support import Backend, LabelStudio, Project, eventually

AUTH = {"BASIC_AUTH_USER": "annotators", "BASIC_AUTH_PASS": "correct horse"}
IMAGES = 8
SECONDS = 240
"""For a worker on a busy machine to load its weights, and to segment all images."""


@pytest.fixture
def backend(new_backend: Callable[..., Backend]) -> Backend:
    return new_backend(**AUTH)


@pytest.fixture
def project(backend: Backend, new_project: Callable[..., Project], scenes: Scenes) -> Project:
    """A project with some scenes, and with a task whose image is where no image may come from."""
    project = new_project(backend.url, labels=("moai", "tokyo tower", "cat"), title="Landmarks", auth=backend.auth)
    os.kill(
        backend.pid("worker"), signal.SIGSTOP
    )  # let go in `held_at_an_image`, lest all be done before anybody looks
    project.studio.import_tasks(project.id, [{"image": "http://169.254.169.254/latest/meta-data/photo.png"}])
    project.add_images(scenes.images[:IMAGES])
    return project


@contextmanager
def held_at_an_image(backend: Backend) -> Iterator[None]:
    """The worker stands still while it is at an image: it may be done with all of them between two looks of a page."""
    pid = backend.pid("worker")

    def caught() -> bool:
        os.kill(pid, signal.SIGSTOP)
        told = requests.get(f"{backend.url}/status.json", auth=backend.auth, timeout=10).json()
        if not told["running_tasks"]:
            os.kill(pid, signal.SIGCONT)
        return bool(told["running_tasks"])

    try:
        eventually(caught, SECONDS, "the worker at an image", every=0.05)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def page(browser: Browser, backend: Backend) -> Iterator[Page]:
    """A page that knows the password, with whatever went wrong in it collected in `page.wrong`."""
    assert backend.auth is not None
    user, password = backend.auth
    context = browser.new_context(
        viewport={"width": 1150, "height": 1250},
        base_url=backend.url,
        http_credentials={"username": user, "password": password},
    )
    yield context.new_page()
    context.close()


def figure(page: Page, name: str) -> float:
    shown = page.locator(".figure", has_text=name).locator("b").inner_text()
    return float(shown.removesuffix(" s"))


@pytest.mark.timeout(900)
def test_people_see_work_go_on(
    page: Page, project: Project, backend: Backend, label_studio: LabelStudio, tmp_path: Path
) -> None:
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(request.url.split("/")[2]) if "//" in request.url else None)

    page.goto("/")
    with held_at_an_image(backend):
        running = page.locator("#running")
        running.wait_for(timeout=SECONDS * 1000)  # it appears by itself
        expect(page.locator("#workers")).to_contain_text("demo")
        expect(page.locator("#workers")).to_contain_text("cpu")
        link = running.locator("a").first
        task = int(link.inner_text().removeprefix("task "))
        assert link.get_attribute("href") == f"{label_studio.url}/projects/{project.id}/data?task={task}"
    assert task in {one["id"] for one in project.tasks()}
    failure = page.locator("#failures")
    failure.wait_for(timeout=SECONDS * 1000)
    expect(failure).to_contain_text("169.254.169.254")
    expect(failure).to_contain_text(f"python -m backend requeue --project {project.id} --task")
    # Some are done and others wait, so that there is something to see of everything.
    eventually(lambda: figure(page, "delivered") >= 2, SECONDS, "deliveries on the page")
    assert [page.locator(part).count() for part in ("header", "main", "footer")] == [1, 1, 1]
    folder = Path(os.environ.get("CAR_SCREENSHOTS") or tmp_path)
    page.screenshot(path=folder / "status.png", full_page=True)

    eventually(lambda: figure(page, "delivered") >= IMAGES, SECONDS, "the end, on the page", every=1)
    told = requests.get(f"{backend.url}/status.json", auth=backend.auth, timeout=10).json()
    assert (told["delivered"], told["failed"], told["failed_by_kind"]) == (IMAGES, 1, {"image": 1})
    assert told["stages"]["job"]["counts"] != [0] * len(told["stages"]["job"]["counts"])
    metrics = requests.get(f"{backend.url}/metrics", auth=backend.auth, timeout=10).text
    assert f"car_job_seconds_count {IMAGES}.0" in metrics
    assert 'car_predictions_total{outcome="delivered"} 8.0' in metrics

    assert wrong == [], "the policy lets through what the page needs"
    assert asked == {backend.url.split("/")[2]}, "nothing comes from elsewhere"
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")
    assert light == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 30)"

    backend.stop("backend")
    expect(page.locator("#away")).to_be_visible(timeout=60_000)


@pytest.mark.timeout(900)
def test_the_doctor_finds_no_fault_with_it(
    backend: Backend, new_project: Callable[..., Project], scenes: Scenes
) -> None:
    project = new_project(backend.url, labels=("moai", "cat"), title="Landmarks", auth=backend.auth)
    project.add_images(scenes.images[:1])
    project_id = str(project.id)
    env = dict(backend.programs["backend"].env)

    def doctor() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "backend", "doctor", "--project", project_id]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)

    eventually(lambda: "ok           weights" in doctor().stdout, SECONDS, "loaded weights")
    # The courier puts the secret on the webhook a second after the model was connected.
    eventually(lambda: "ok           webhook" in doctor().stdout, 60, "the webhook's secret")
    told = doctor()
    assert (told.returncode, "problem " in told.stdout) == (0, False), told.stdout
    for check in ("redis", "redis keeps all", "workers", "courier", "label studio", "token", "connection", "image"):
        assert f"ok           {check} " in told.stdout, told.stdout
    assert f"{backend.url}, car-demo-" in told.stdout
