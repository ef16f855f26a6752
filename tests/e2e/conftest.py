"""Fixtures for end-to-end tests: the real Label Studio, the backend's processes, and a browser that is logged in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from backend.local.demo_project import Scenes, load_scenes
from tests.e2e.browsing import launch, log_in
from tests.e2e.sized_images import SizedImages, serve_images
from tests.e2e.support import (
    SCENES,
    STARTED,
    Backend,
    LabelStudio,
    Project,
    make_project,
    start_backend,
    start_label_studio,
)

HERE = Path(__file__).parent
QUICK = {"CAR_CONVERGE_SECONDS": "2", "CAR_ALLOWED_HOSTS": "127.0.0.1"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
    # They take the longest and mostly wait: where there are several processes (see ../conftest.py), they begin first.
    items.sort(key=lambda item: HERE not in item.path.parents)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the ends of the processes' logs with a test that fails."""
    report: Any = yield
    if report.failed:
        for supervisor in STARTED:
            for name in supervisor.pids:
                report.sections.append((f"{name} ({supervisor.folder.name})", supervisor.log_end(name, 25)))
    return report


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    """A Label Studio for the whole session; it has only what tests put there."""
    running = start_label_studio(tmp_path_factory.mktemp("label-studio"))
    yield running
    running.supervisor.stop_all()
    STARTED.remove(running.supervisor)


@pytest.fixture(scope="session")
def backend(label_studio: LabelStudio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """The backend for the whole session, with one worker and the demo preset. Don't stop its processes."""
    running = start_backend(tmp_path_factory.mktemp("backend"), label_studio.url, label_studio.account.token)
    yield running
    running.supervisor.stop_all(last="redis")
    STARTED.remove(running.supervisor)


@pytest.fixture(scope="session")
def sized_images() -> Iterator[SizedImages]:
    """A web server of images; see `tests.e2e.sized_images`."""
    with serve_images() as images:
        yield images


@pytest.fixture(scope="module")
def quick_backend(label_studio: LabelStudio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A backend for the tests of a module: its worker needs no model, and it compares projects every two seconds."""
    folder = tmp_path_factory.mktemp("quick-backend")
    running = start_backend(folder, label_studio.url, label_studio.account.token, latency=0.02, **QUICK)
    yield running
    running.supervisor.stop_all(last="redis")
    STARTED.remove(running.supervisor)


@pytest.fixture
def new_backend(label_studio: LabelStudio, tmp_path: Path) -> Iterator[Callable[..., Backend]]:
    """Start backends for this test alone: `new_backend(workers=2, api_key=..., latency=0, CAR_WAIT="0")`."""
    started: list[Backend] = []

    def start(workers: int = 1, api_key: str = "", latency: float | None = None, **env: str) -> Backend:
        folder = tmp_path / f"backend-{len(started)}"
        key = api_key or label_studio.account.token
        started.append(start_backend(folder, label_studio.url, key, workers, latency, **env))
        return started[-1]

    yield start
    for running in started:
        running.supervisor.stop_all(last="redis")
        STARTED.remove(running.supervisor)


@pytest.fixture
def new_project(label_studio: LabelStudio) -> Iterator[Callable[..., Project]]:
    """Create projects for this test alone: `new_project(backend.url, labels=("moai",))`; see `make_project`."""
    made: list[Project] = []

    def make(backend_url: str | None = None, **options: Any) -> Project:
        made.append(make_project(label_studio.studio, backend_url, **options))
        return made[-1]

    yield make
    for project in made:
        label_studio.studio.delete_project(project.id)


@pytest.fixture(scope="session")
def scenes() -> Scenes:
    """The images and labels of the demo world."""
    return load_scenes(SCENES)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A Chromium: the system's, else the one that playwright has downloaded."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, label_studio: LabelStudio) -> Iterator[Page]:
    """A page of 1500 x 900 pixels that is logged in to Label Studio."""
    context = browser.new_context(viewport={"width": 1500, "height": 900}, base_url=label_studio.url)
    page = context.new_page()
    log_in(page, label_studio)
    yield page
    context.close()
