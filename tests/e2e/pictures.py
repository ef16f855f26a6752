"""Pictures for the docs, taken in the real Label Studio with the demo model: `python -m tests.e2e.pictures`.

Writes `docs/labeling/NAME.webp` for each case of `labeling_cases.py` (or for those named as arguments): what annotators
see without the attribute on the left, with it on the right.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from backend.local.services import ROOT
from tests.e2e.browsing import launch, log_in
from tests.e2e.labeling_cases import CASES, Case
from tests.e2e.support import Backend, LabelStudio, make_project, start_backend, start_label_studio

FOLDER = ROOT / "docs" / "labeling"
WIDTH = 400
"""Pixels of one half of a picture; one without a counterpart is half as wide again."""
MARGIN = 12
PLAIN = """
.lsf-sidepanels__wrapper, .lsf-toolbar__wrapper, .lsf-toolbar, .lsf-bottombar { display: none !important }
"""


@contextmanager
def running() -> Iterator[tuple[LabelStudio, Backend]]:
    """Label Studio, and a backend whose presets all run on the demo's weights."""
    with tempfile.TemporaryDirectory() as place:
        studio = start_label_studio(Path(place) / "studio")
        try:
            token = studio.account.token
            backend = start_backend(Path(place) / "backend", studio.url, token)
            try:
                yield studio, backend
            finally:
                backend.supervisor.stop_all(last="redis")
        finally:
            studio.supervisor.stop_all()


def open_task(page: Page, project: int, task: int) -> None:
    """Show a task without the tools and panels around its image."""
    page.goto(f"/projects/{project}/data?task={task}")
    page.wait_for_selector(".konvajs-content canvas", timeout=120_000)
    page.add_style_tag(content=PLAIN)


def shot(page: Page) -> Image.Image:
    """The image with its regions and the bar with the labels, as an annotator sees them."""
    page.wait_for_timeout(2500)
    view = page.locator(".lsf-main-view__annotation").first
    whole = Image.open(io.BytesIO(view.screenshot())).convert("RGB")
    empty = np.asarray(whole).std(axis=(1, 2)) < 1
    return whole.crop((0, 0, whole.width, int(np.flatnonzero(~empty)[-1]) + MARGIN))


def beside_each_other(shots: Sequence[Image.Image]) -> Image.Image:
    """One or two pictures, each `WIDTH` wide (one alone: half as wide again), on white."""
    width = WIDTH if len(shots) > 1 else WIDTH * 3 // 2
    small = [one.resize((width, round(one.height * width / one.width)), Image.Resampling.LANCZOS) for one in shots]
    height = max(one.height for one in small)
    whole = Image.new("RGB", (sum(one.width for one in small) + MARGIN * (len(small) - 1), height), "white")
    for place, one in enumerate(small):
        whole.paste(one, (place * (width + MARGIN), 0))
    return whole


def predicted(studio: LabelStudio, backend: Backend, config: str, data: Mapping[str, Any]) -> tuple[int, int]:
    """A new project with one task that has its prediction: their ids."""
    project = make_project(studio.studio, backend.url, label_config=config)
    project.studio.import_tasks(project.id, [dict(data)])
    project.await_predictions(300)
    return project.id, project.tasks()[0]["id"]


def draw(page: Page, studio: LabelStudio, backend: Backend, case: Case) -> Path:
    """Write the picture of one case; of an image with pages the first two."""
    shots = []
    for config in (config for config in (case.without, case.config) if config is not None):
        open_task(page, *predicted(studio, backend, config, case.task))
        shots.append(shot(page))
    if "pages" in case.task:
        page.locator(".lsf-pagination__btn_arrow-right").first.click()
        shots.append(shot(page))
    path = FOLDER / f"{case.name}.webp"
    beside_each_other(shots).save(path, quality=70, method=6)
    return path


def main(names: Sequence[str]) -> int:
    """Draw the cases of these names, all if there are none."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    chosen = [case for case in CASES if not names or case.name in names]
    with running() as (studio, backend), sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_context(viewport={"width": 900, "height": 1000}, base_url=studio.url).new_page()
        log_in(page, studio)
        for case in chosen:
            path = draw(page, studio, backend, case)
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB", flush=True)
        browser.close()
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.pictures", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    sys.exit(main(parser.parse_args().names))
