"""A mask corrected in a real browser is on the corrections page; what is proposed reaches the labeling config."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page
from redis import Redis

from backend.corrections.proposals import Outcome, Proposal, keep
from backend.labeling.parsing import parse_config
from backend.local.demo_project import Scenes
from tests.e2e.support import Backend, LabelStudio, Project, eventually, run_command
from tests.e2e.test_browser import LABELS, iou, open_task, scale_of, stored_masks
from tests.weights import CLIP

NewProject = Callable[..., Project]


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: CAR_SCREENSHOTS, to look at them, else a temporary folder."""
    folder = Path(os.environ.get("CAR_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def corrections(backend: Backend, studio: LabelStudio, project: Project, *options: str) -> dict[str, Any]:
    """What the command says, in the environment of the backend."""
    asked = ("corrections", "--project", str(project.id), "--json", *options)
    done = run_command(*asked, studio=studio, backend=backend)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def paint(page: Page, project: Project, task: int, label: str) -> None:
    """Add a stroke to a predicted region in the empty corner below, and submit."""
    stage = open_task(page, project, task)
    page.wait_for_timeout(1000)
    box = stage.bounding_box()
    assert box is not None
    scale = scale_of((box["width"], box["height"]))
    page.locator(".lsf-tree__node", has_text=label).first.click()
    page.locator('[aria-label="brush-tool"]').first.click()
    page.mouse.move(box["x"] + 20 * scale, box["y"] + 290 * scale)
    page.mouse.down()
    page.mouse.move(box["x"] + 120 * scale, box["y"] + 290 * scale, steps=10)
    page.mouse.up()
    page.wait_for_timeout(500)
    with page.expect_response(lambda answer: f"/api/tasks/{task}/annotations" in answer.url) as saved:
        page.click("[data-testid=bottombar-submit-button]")
    assert saved.value.status == 201


def test_a_mask_corrected_with_the_brush_is_on_the_page_with_its_iou(
    page: Page,
    backend: Backend,
    new_project: NewProject,
    scenes: Scenes,
    label_studio: LabelStudio,
    shots: Path,
    tmp_path: Path,
) -> None:
    project = new_project(backend.url, labels=LABELS, title="Corrected")
    (task,) = project.add_images(scenes.images[:1])
    project.await_predictions()
    before = stored_masks(project.predictions()[task][0]["result"])
    paint(page, project, task, "moai")
    (annotation,) = (label_studio.studio.task(task) or {})["annotations"]
    after = stored_masks(annotation["result"])
    expected = iou(before["moai"], after["moai"])
    assert 0.1 < expected < 0.99, "the stroke changed something, but not everything"

    def shown() -> bool:
        page.goto(f"{backend.url}/corrections?project={project.id}")
        return page.locator("#worst figure").count() == 1

    eventually(shown, 60, "the correction on the page", every=1)
    page.screenshot(path=shots / "corrections.png", full_page=True)
    (caption,) = page.locator("#worst figcaption").all_inner_texts()
    mean = (expected + len(before) - 1) / len(before)
    assert caption.split("\n") == [f"Task {task}, mean IoU {mean:.3f}", f"moai changed ({expected:.3f})"]
    assert (
        page.locator("#worst a").get_attribute("href") == f"{label_studio.url}/projects/{project.id}/data?task={task}"
    )
    rows = {row.split("\t")[0]: row.split("\t") for row in page.locator("#labels tr").all_inner_texts()[1:]}
    assert set(rows) == set(before)
    assert rows["moai"][1].startswith(f"{expected:.3f}")
    for label in set(before) - {"moai"}:
        assert rows[label][1].startswith("1.000"), f"{label} was not touched"
        assert rows[label][3:] == ["1", "0", "0", "0"]

    told = corrections(backend, label_studio, project, "--html", str(tmp_path / "report.html"))
    assert told["worst"][0]["labels"]["moai"] == "changed"
    assert told["seconds"] > 0, "the browser's lead_time"
    page.goto((tmp_path / "report.html").as_uri())
    page.locator("figure img").wait_for()
    page.screenshot(path=shots / "corrections-report.png", full_page=True)
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")

    rebuilt = corrections(backend, label_studio, project, "--rebuild")
    assert rebuilt == told

    path = f"/api/annotations/{annotation['id']}/"
    predicted = project.predictions()[task][0]["result"]
    label_studio.studio.session.send("PATCH", path, json={"result": predicted})
    eventually(lambda: corrections(backend, label_studio, project)["accepted"]["value"] == 1, 60, "the update")
    label_studio.studio.session.send("DELETE", path)
    eventually(lambda: corrections(backend, label_studio, project)["annotations"] == 0, 60, "the deletion")


def test_start_training_writes_what_is_proposed_into_the_labeling_config(
    backend: Backend, new_project: NewProject, label_studio: LabelStudio
) -> None:
    project = new_project(backend.url, labels=LABELS)
    config = (project.studio.project(project.id) or {})["label_config"]
    version = parse_config(config, "demo").version(str(CLIP))
    proposal = Proposal(True, "better", {"moai": 0.25}, 20, Outcome(20, 0.5, 0.6, 1.0, 0.1, 0.1), 0.2, 0.7)
    with Redis.from_url(backend.redis_url) as redis:
        keep(redis, project.id, version, proposal)
    (connected,) = project.studio.backends(project.id)
    label_studio.studio.session.send("POST", f"/api/ml/{connected['id']}/train", json={}, timeout=60)

    def written() -> Any:
        return parse_config((project.studio.project(project.id) or {})["label_config"], "demo").images[0].overrides

    assert eventually(written, 60, "the settings in the labeling config") == (("eta", "0.2"), ("lambda", "0.7"))
    found = parse_config((project.studio.project(project.id) or {})["label_config"], "demo")
    assert found.thresholds() == {"moai": 0.25}
    assert found.version(str(CLIP)) != version
