"""Labeling configs in the real Label Studio: every attribute, and what it does to the predictions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import supervision as sv
from PIL import Image
from playwright.sync_api import Page
from pycocotools.coco import COCO

from backend.corrections.comparison import union_masks
from backend.export.regions import regions
from backend.local.demo_project import Scenes
from tests.backend.site import Reply, Site
from tests.e2e.labeling_cases import BASE, CASES, WALL, address, brush, twins
from tests.e2e.support import STARTED, Backend, LabelStudio, Project, eventually, run_command, start_backend
from tests.e2e.test_export import export

SIZE = (320, 384)
HIDDEN = (
    '<RectangleLabels name="hidden" toName="image" model_skip="true"><Label value="moai"/></RectangleLabels>'
    '<Choices name="good" toName="image"><Choice value="yes"/></Choices>'
)
SHAPES = f"""<View><Image name="image" value="$image"/>
  <BrushLabels name="mask" toName="image" car_preset="demo" car_eta="0.4">
    <Label value="Head" alias="stone head" car_prompt="moai"/>
    <Label value="Tower" predicted_values="tokyo tower, a red tower"/>
    <Label value="firefox logo" model_score_threshold="1.0"/>
  </BrushLabels>
  <PolygonLabels name="outline" toName="image"><Label value="Head"/></PolygonLabels>
  <RectangleLabels name="box" toName="image" car_instances="components" model_score_threshold="0.2">
    <Label value="Head"/><Label value="Tower"/><Label value="cat"/>
  </RectangleLabels>{HIDDEN}</View>"""

LABELS = ("moai", "tokyo tower")
PAGED = brush(*LABELS).replace('value="$image"', 'valueList="$pages"', 1)
BOTH = {("image", 0), ("image", 1)}
HOST = "127.0.0.2"
"""Where a web server of a test's own may be."""

NewProject = Callable[..., Project]
Result = list[dict[str, Any]]


@pytest.fixture(scope="module")
def backend(label_studio: LabelStudio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A backend that may fetch images from elsewhere; all its presets run on one CLIP, so that a project may choose."""
    folder = tmp_path_factory.mktemp("backend-of-weights")
    running = start_backend(folder, label_studio.url, label_studio.account.token, CAR_ALLOWED_HOSTS=HOST)
    yield running
    running.supervisor.stop_all(last="redis")
    STARTED.remove(running.supervisor)


def predicted(project: Project) -> Result:
    project.await_predictions(300)
    ((found, *_), *_) = project.predictions().values()
    result: Result = found["result"]
    return result


def stored(result: Result) -> Counter[tuple[str, str]]:
    """How many regions each control has of each label."""
    return Counter((one["from_name"], one["value"][one["type"]][0]) for one in result)


def areas(result: Result) -> dict[str, int]:
    """Pixels of each label's mask."""
    return {label: int(mask.sum()) for label, mask in union_masks(result)["image", 0].items()}


def test_every_attribute_does_what_the_reference_says(backend: Backend, new_project: NewProject) -> None:
    projects: dict[str, Project] = {}
    for case in CASES:
        projects[case.name] = new_project(backend.url, label_config=case.config, title=case.name)
        projects[case.name].studio.import_tasks(projects[case.name].id, [dict(case.task)])
    plain = {"base": BASE, "things": brush("moai", "tokyo tower", "road")}
    for name, config in plain.items():
        projects[name] = new_project(backend.url, label_config=config, title=name)
        projects[name].studio.import_tasks(projects[name].id, [{"image": address(WALL)}])
    results = {name: predicted(project) for name, project in projects.items()}
    for case in CASES:
        assert stored(results[case.name]) == case.expected, case.name

    base = areas(results["base"])
    assert set(base) == {"moai", "tokyo tower", "firefox logo"}
    assert areas(results["car_refine"])["tokyo tower"] > 1.5 * base["tokyo tower"], "a soft map is wider than the thing"
    assert areas(results["car_background"])["tokyo tower"] > 1.3 * base["tokyo tower"], (
        "nothing competes for its pixels"
    )
    apart, together = areas(results["car_group"])["moai"], areas(results["things"])["moai"]
    assert abs(apart - base["moai"]) < 0.05 * base["moai"], "stuff takes nothing of a thing"
    assert together < 0.8 * base["moai"], "as a thing the road does"
    assert {one["to_name"] for one in results["images"]} == {"front", "back"}
    assert [one["item_index"] for one in results["pages"]] == [0, 1]


def test_every_control_at_once(backend: Backend, new_project: NewProject, scenes: Scenes) -> None:
    project = new_project(backend.url, label_config=SHAPES)
    project.add_images(scenes.images[:1])
    result = predicted(project)
    found = stored(result)
    assert found["mask", "stone head"] == 1
    assert found["mask", "Tower"] == 1
    assert found["outline", "Head"] >= 1
    assert found["box", "Head"] >= 1
    assert found["box", "Tower"] >= 1
    assert not any("firefox logo" in pair or "hidden" in pair for pair in found)
    masks = regions([one for one in result if one["from_name"] == "mask"], ["stone head", "Tower"])
    outlines = regions([one for one in result if one["from_name"] == "outline"], ["Head"])
    boxes = regions([one for one in result if one["from_name"] == "box"], ["Head", "Tower", "cat"])
    head = next(one.mask for one in masks if one.label == "stone head")
    outlined = np.any([one.mask for one in outlines], axis=0)
    boxed = np.any([one.mask for one in boxes if one.label == "Head"], axis=0)
    assert head.shape == SIZE
    assert (outlined & head).sum() / (outlined | head).sum() > 0.85
    assert not (head & ~boxed).any()


@pytest.fixture
def site() -> Iterator[Site]:
    running = Site(HOST)
    yield running
    running.close()


def failures(backend: Backend, project: Project) -> list[str]:
    """What the status page says of a project's failed tasks."""
    told = requests.get(f"{backend.url}/status.json", timeout=30).json()
    return [one["error"] for one in told["failures"] if one["project"] == project.id]


def test_a_page_that_is_gone_takes_no_other_along_and_comes_with_requeue(
    label_studio: LabelStudio, backend: Backend, new_project: NewProject, site: Site
) -> None:
    project = new_project(backend.url, label_config=PAGED, title="A page is gone")
    project.studio.import_tasks(project.id, [{"pages": [address(WALL), site.url + "/wall.png"]}])
    assert set(union_masks(predicted(project))) == {("image", 0)}
    (error,) = failures(backend, project)
    assert error.startswith("1 of 2 images are missing in the prediction: image, page 2: ")
    assert "404" in error

    site.replies["/wall.png"] = Reply(parts=(WALL.read_bytes(),))
    done = run_command("requeue", "--project", str(project.id), studio=label_studio, backend=backend)
    assert done.returncode == 0, done.stderr

    def pages() -> list[set[tuple[str, int | None]]]:  # for a moment there is none: it takes the place of the first
        return [set(union_masks(one["result"])) for stored in project.predictions().values() for one in stored]

    eventually(lambda: pages() == [{("image", 0), ("image", 1)}], 120, "the whole prediction")
    assert project.counts() == [1], "it took the place of the first"
    assert failures(backend, project) == []


def test_pages_come_back_from_the_browser_as_they_were_predicted_and_out_of_an_export(
    backend: Backend, new_project: NewProject, label_studio: LabelStudio, page: Page, tmp_path: Path
) -> None:
    project = new_project(backend.url, label_config=PAGED, title="Pages")
    project.studio.import_tasks(project.id, [{"pages": [address(WALL), address(twins())]}])
    before = union_masks(predicted(project))
    assert [mask["moai"].shape for mask in before.values()] == [SIZE, (320, 468)]

    (task,) = (one["id"] for one in project.tasks())
    page.goto(f"/projects/{project.id}/data?task={task}")
    page.wait_for_selector(".lsf-tree__node", timeout=120_000)
    page.wait_for_selector(".konvajs-content canvas")
    page.wait_for_timeout(2000)
    with page.expect_response(lambda answer: f"/api/tasks/{task}/annotations" in answer.url) as saved:
        page.click("[data-testid=bottombar-submit-button]")
    assert saved.value.status == 201
    (annotation,) = (label_studio.studio.task(task) or {})["annotations"]
    after = union_masks(annotation["result"])
    for place, masks in before.items():  # the second was never looked at
        for label, mask in masks.items():
            assert (after[place][label] == mask).all(), (place, label)

    for format in ("coco", "png", "yolo-seg"):
        common = ("--project", str(project.id), "--images", "--format", format, "--out", str(tmp_path / format))
        done = export(label_studio, *common)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"Written to {tmp_path / format}: 2. Without annotations: 0.\n"
    out = tmp_path / "coco"
    coco = COCO(str(out / "annotations.json"))
    names = {one["id"]: one["name"] for one in coco.loadCats(coco.getCatIds())}
    for image in json.loads((out / "annotations.json").read_text())["images"]:
        found = {names[one["category_id"]]: coco.annToMask(one) for one in coco.loadAnns(coco.getAnnIds(image["id"]))}
        wanted = before[image["tag"], image["page"]]
        assert found.keys() == wanted.keys()
        assert all((found[label] == mask).all() for label, mask in wanted.items())
        index = np.asarray(Image.open(tmp_path / "png" / "masks" / image["file_name"]))
        assert all(((index == LABELS.index(label) + 1) == mask).all() for label, mask in wanted.items())
    yolo = tmp_path / "yolo-seg"
    dataset = sv.DetectionDataset.from_yolo(
        str(yolo / "images"), str(yolo / "labels"), str(yolo / "data.yaml"), force_masks=True
    )
    read = {Path(path).name: detections for path, _, detections in dataset}
    for image in coco.loadImgs(coco.getImgIds()):
        found = read[image["file_name"]]
        for label, mask in before[image["tag"], image["page"]].items():
            drawn = found.mask[found.class_id == LABELS.index(label)].any(axis=0)
            assert (drawn & mask).sum() / (drawn | mask).sum() > 0.97, "outlines may be half a pixel off"
