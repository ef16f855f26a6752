"""What an annotator sees and does, in a real browser: the mask lies on the object, a correction comes back as drawn."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Locator, Page

from backend.local.demo_project import Scenes
from backend.masks import brush
from tests.e2e.support import Backend, LabelStudio, Project, eventually

LABELS = ("moai", "tokyo tower", "firefox logo", "cat")
WIDTH, HEIGHT = 384, 320


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: CAR_SCREENSHOTS, to look at them, else a temporary folder."""
    folder = Path(os.environ.get("CAR_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def project(backend: Backend, new_project: Callable[..., Project], scenes: Scenes) -> Project:
    project = new_project(backend.url, labels=LABELS, title="Landmarks")
    project.add_images(scenes.images[:1])
    project.await_predictions()
    return project


def open_task(page: Page, project: Project, task: int) -> Locator:
    """Open a task and wait until its regions are drawn; returns the stage with the image."""
    page.goto(f"/projects/{project.id}/data?task={task}")
    page.wait_for_selector(".lsf-tree__node", timeout=60_000)
    stage = page.locator(".konvajs-content").first
    stage.wait_for()
    eventually(lambda: is_drawn(stage), 30, "the picture on the stage")
    return stage


def is_drawn(stage: Locator) -> bool:
    return bool(seen(stage).std() > 10)


def scale_of(size: tuple[float, float]) -> float:
    """Screen pixels per image pixel: the image lies in the stage's upper left corner, as large as fits."""
    return min(size[0] / WIDTH, size[1] / HEIGHT)


def seen(stage: Locator) -> NDArray[np.int16]:
    """The image on the stage as it is on the screen, scaled back to its own size: [H, W, 3]."""
    shot = Image.open(io.BytesIO(stage.screenshot())).convert("RGB")
    scale = scale_of(shot.size)
    image = shot.crop((0, 0, round(WIDTH * scale), round(HEIGHT * scale)))
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR), np.int16)


def regions(page: Page) -> list[str]:
    return page.locator(".lsf-tree__node").all_inner_texts()


def stored_masks(result: list[dict[str, Any]]) -> dict[str, NDArray[np.bool_]]:
    return {
        region["value"]["brushlabels"][0]: brush.decode(
            region["value"]["rle"], region["original_height"], region["original_width"]
        )
        > 127
        for region in result
    }


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_the_mask_lies_on_the_object(page: Page, project: Project, scenes: Scenes, shots: Path) -> None:
    (task,) = (one["id"] for one in project.tasks())
    stage = open_task(page, project, task)
    page.wait_for_timeout(1500)
    page.screenshot(path=shots / "prelabelled.png")
    picture = np.asarray(Image.open(scenes.images[0]).convert("RGB"), np.int16)
    difference = cv2.blur(seen(stage), (5, 5)) - cv2.blur(picture, (5, 5))
    changed = np.abs(difference).max(axis=2) > 30
    predicted = stored_masks(project.predictions()[task][0]["result"])
    assert len(regions(page)) == len(predicted)
    drawn = np.logical_or.reduce(list(predicted.values()))
    inside = cv2.erode(drawn.astype(np.uint8), np.ones((7, 7))) > 0  # away from edges, which scaling blurs
    outside = cv2.dilate(drawn.astype(np.uint8), np.ones((15, 15))) == 0
    assert changed[inside].mean() > 0.7, "the screen shows the mask where it was predicted"
    assert changed[outside].mean() < 0.1, "and nowhere else"
    folder = scenes.images[0].parents[1]
    moai = 1 + (folder / "classes.txt").read_text().splitlines().index("moai")
    truth = np.asarray(Image.open(folder / "masks" / scenes.images[0].name)) == moai
    assert changed[truth].mean() > 0.5, "which is on the object"


def test_a_correction_comes_back_as_it_was_drawn(
    page: Page, project: Project, label_studio: LabelStudio, shots: Path
) -> None:
    (task,) = (one["id"] for one in project.tasks())
    before = stored_masks(project.predictions()[task][0]["result"])
    stage = open_task(page, project, task)
    page.wait_for_timeout(1000)
    box = stage.bounding_box()
    assert box is not None
    scale = scale_of((box["width"], box["height"]))

    page.locator(".lsf-tree__node", has_text="moai").first.click()
    page.locator('[aria-label="brush-tool"]').first.click()
    start, end = (20, 290), (120, 290)  # image pixels, in the empty corner below
    page.mouse.move(box["x"] + start[0] * scale, box["y"] + start[1] * scale)
    page.mouse.down()
    page.mouse.move(box["x"] + end[0] * scale, box["y"] + end[1] * scale, steps=10)
    page.mouse.up()
    page.wait_for_timeout(500)
    page.screenshot(path=shots / "corrected.png")
    with page.expect_response(lambda answer: f"/api/tasks/{task}/annotations" in answer.url) as saved:
        page.click("[data-testid=bottombar-submit-button]")
    assert saved.value.status == 201

    (annotation,) = (label_studio.studio.task(task) or {})["annotations"]
    after = stored_masks(annotation["result"])
    assert set(after) == set(before)
    for label in set(before) - {"moai"}:
        assert iou(before[label], after[label]) > 0.999, f"{label} was not touched"
    stroke = after["moai"] & ~before["moai"]
    ys, xs = np.nonzero(stroke)
    assert (before["moai"] & ~after["moai"]).sum() == 0, "nothing of the prediction is lost"
    assert abs(int(ys.mean()) - 290) < 8
    assert xs.min() < 25
    assert xs.max() > 115
