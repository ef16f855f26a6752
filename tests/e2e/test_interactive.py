"""An annotator asks in the open task, by a text, by clicks, by a box, in a real browser (docs/interactive.md)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Locator, Page, Request

from backend.local.demo_project import Scenes
from backend.masks import brush
from tests.e2e.support import Backend, LabelStudio, Project, eventually

Mask = NDArray[np.bool_]
WIDTH, HEIGHT = 384, 320
COLOURS = {"moai": "#d33", "tokyo tower": "#186", "logo": "#26c"}
LABELS = "".join(f'<Label value="{label}" background="{colour}"/>' for label, colour in COLOURS.items())
CONFIG = f"""<View>
  <BrushLabels name="mask" toName="image" smart="false">{LABELS}</BrushLabels>
  <KeyPointLabels name="point" toName="image" smartOnly="true">{LABELS}</KeyPointLabels>
  <RectangleLabels name="box" toName="image" smartOnly="true">{LABELS}</RectangleLabels>
  <TextArea name="prompt" toName="image" smartOnly="true" placeholder="What is missing? Press Enter."/>
  <Image name="image" value="$image"/>
</View>"""
POINT_MOAI, BOX_TOWER = "4", "8"
"""Keys of these labels: the editor numbers them as they come."""
HAT = (297, 150)
"""On the moai, in pixels."""


def truth(scenes: Scenes, name: str) -> Mask:
    folder = scenes.images[0].parents[1]
    number = 1 + (folder / "classes.txt").read_text().splitlines().index(name)
    return np.asarray(Image.open(folder / "masks" / "000.png")) == number


def middle(mask: Mask) -> tuple[int, int]:
    rows, columns = np.nonzero(mask)
    return int(columns.mean()), int(rows.mean())


def iou(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / (one | other).sum())


def masks_of(result: list[dict[str, Any]]) -> dict[str, Mask]:
    return {
        region["value"]["brushlabels"][0]: brush.solid(region["value"]["rle"], HEIGHT, WIDTH)
        for region in result
        if region["type"] == "brushlabels"
    }


class Editor:
    """The open task: asks, and keeps what was sent, answered, and how long it took."""

    def __init__(self, page: Page, shots: Path) -> None:
        self.page = page
        self.shots = shots
        self.sent: list[dict[str, Any]] = []
        self.seconds: dict[str, float] = {}
        page.on("request", self._note)

    def _note(self, request: Request) -> None:
        if "interactive-annotating" in request.url:
            self.sent.append(json.loads(request.post_data or "{}"))

    def open(self, project: Project, task: int) -> None:
        self.page.goto(f"/projects/{project.id}/data?task={task}")
        self.page.wait_for_selector(".lsf-tree__node", timeout=60_000)
        self.stage.wait_for()
        self.page.wait_for_timeout(1500)
        self.page.locator("[data-testid=bottombar-auto-annotation-toggle]").check()

    @property
    def stage(self) -> Locator:
        return self.page.locator(".konvajs-content").first

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the image is on the screen."""
        box = self.stage.bounding_box()
        assert box is not None
        scale = min(box["width"] / WIDTH, box["height"] / HEIGHT)
        return box["x"] + x * scale, box["y"] + y * scale

    def ask(self, name: str, do: Callable[[], object]) -> dict[str, Mask]:
        """Do something that asks; returns the masks of the answer, once the editor shows it."""
        before = self.stage.screenshot()
        begun = time.monotonic()
        with self.page.expect_response(lambda answer: "interactive-annotating" in answer.url) as response:
            do()
        answered = response.value.json()["data"]
        if answered["result"]:
            self.page.wait_for_selector("[data-testid=bottombar-accept-suggestions-button]")
            eventually(lambda: self.stage.screenshot() != before, 20, "the mask on the stage", every=0.05)
        self.seconds[name] = round(time.monotonic() - begun, 2)
        self.page.wait_for_timeout(700)
        self.page.screenshot(path=self.shots / f"interactive-{name}.png")
        return masks_of(answered["result"])

    def write(self, name: str, text: str) -> dict[str, Mask]:
        self.page.fill("[name=prompt]", text)
        return self.ask(name, lambda: self.page.press("[name=prompt]", "Enter"))

    def click(self, name: str, place: tuple[int, int], *keys: str) -> dict[str, Mask]:
        with self.held(*keys):
            return self.ask(name, lambda: self.page.mouse.click(*self.at(*place)))

    @contextmanager
    def held(self, *keys: str) -> Iterator[None]:
        for key in keys:
            self.page.keyboard.down(key)
        yield
        for key in keys:
            self.page.keyboard.up(key)

    def press(self, *keys: str) -> None:
        self.page.evaluate("document.activeElement.blur()")
        for key in keys:
            self.page.keyboard.press(key)
            self.page.wait_for_timeout(200)

    def smart(self, tool: str) -> None:
        """Take a smart tool out of the last group of the toolbar, which unfolds under the mouse."""
        self.page.locator(".lsf-toolbar .lsf-tool:visible").last.hover()
        self.page.locator(f".lsf-tool_smart[aria-label={tool}]").click()

    def accept(self) -> list[str]:
        """Accept all suggestions; returns the regions in the list."""
        self.page.click("[data-testid=bottombar-accept-suggestions-button]")
        self.page.wait_for_timeout(700)
        return [text.split("\n")[1] for text in self.page.locator(".lsf-tree__node").all_inner_texts()]


@pytest.fixture
def editor(page: Page, tmp_path: Path) -> Editor:
    shots = Path(os.environ.get("CAR_SCREENSHOTS") or tmp_path)
    shots.mkdir(parents=True, exist_ok=True)
    return Editor(page, shots)


def test_an_annotator_asks_by_text_by_clicks_and_by_a_box(
    backend: Backend,
    new_project: Callable[..., Project],
    scenes: Scenes,
    editor: Editor,
    label_studio: LabelStudio,
) -> None:
    project = new_project(backend.url, label_config=CONFIG, interactive=True, title="Landmarks")
    (task,) = project.add_images(scenes.images[:1])
    project.await_predictions()
    predicted = project.predictions()[task]
    before = masks_of(predicted[0]["result"])
    moai, tower = truth(scenes, "moai"), truth(scenes, "tokyo tower")
    assert set(before) == {"moai", "tokyo tower"}, "the tools take no masks, and the logo is not found by that word"
    editor.open(project, task)

    # By a text: it names a label, and brings what it describes.
    found = editor.write("text", "the firefox logo on the wall")
    assert iou(found["logo"], truth(scenes, "firefox logo")) > 0.8
    (sent,) = editor.sent.pop()["context"]["result"]
    assert sent["value"] == {"text": ["the firefox logo on the wall"]}
    assert (sent["type"], sent["from_name"], sent["to_name"]) == ("textarea", "prompt", "image")
    assert sorted(editor.accept()) == ["logo", "moai", "tokyo tower"]

    # By clicks: what is in it, then what is not. Control, because a region lies under the mouse.
    editor.press(POINT_MOAI, "m")
    once = editor.click("click", middle(moai), "Control")
    assert iou(once["moai"], moai) > max(0.9, iou(before["moai"], moai))
    editor.press(POINT_MOAI)
    twice = editor.click("negative", HAT, "Control", "Alt")
    taken = once["moai"] & ~twice["moai"]
    assert taken[HAT[1], HAT[0]]
    assert 300 < taken.sum() < 0.3 * moai.sum(), "all of the hat, and no more"
    assert twice["moai"][middle(moai)[::-1]]
    points = editor.sent.pop()["context"]["result"]
    assert [point["is_positive"] for point in points] == [True, False]
    assert {point["value"]["keypointlabels"][0] for point in points} == {"moai"}
    assert sorted(editor.accept()) == ["logo", "moai", "tokyo tower"], "it took the place of the one that was there"

    # By a box.
    editor.press(BOX_TOWER)
    editor.smart("rectangle-tool")
    rows, columns = np.nonzero(tower)

    def drag() -> None:
        editor.page.mouse.move(*editor.at(columns.min() - 6, rows.min() - 6))
        editor.page.mouse.down()
        editor.page.mouse.move(*editor.at(columns.max() + 7, rows.max() + 7), steps=8)
        editor.page.mouse.up()

    with editor.held("Control"):
        boxed = editor.ask("box", drag)
    assert iou(boxed["tokyo tower"], tower) > iou(before["tokyo tower"], tower)
    assert sorted(editor.accept()) == ["logo", "moai", "tokyo tower"]
    print("seconds from key or mouse to mask:", editor.seconds)

    # What is not there, and what cannot be answered, breaks nothing.
    assert editor.write("absent", "a guitar") == {}
    assert project.predictions()[task] == predicted, "what was delivered is as it was"

    with editor.page.expect_response(lambda answer: f"/api/tasks/{task}/annotations" in answer.url) as saved:
        editor.page.click("[data-testid=bottombar-submit-button]")
    assert saved.value.status == 201
    (annotation,) = (label_studio.studio.task(task) or {})["annotations"]
    after = masks_of(annotation["result"])
    assert iou(after["moai"], twice["moai"]) > 0.999
    assert iou(after["logo"], found["logo"]) > 0.999
    assert iou(after["tokyo tower"], boxed["tokyo tower"]) > 0.999
    assert len([one for one in annotation["result"] if one["type"] == "brushlabels"]) == 3
