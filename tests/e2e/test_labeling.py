"""Labeling configs in the real Label Studio: every attribute, and what it does to the predictions."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from backend.export.regions import regions
from backend.local.demo_project import Scenes
from tests.e2e.support import Backend, Project

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
DYNAMIC = """<View><Image name="image" value="$image"/>
  <BrushLabels name="mask" toName="image" value="$labels"/></View>"""

NewProject = Callable[..., Project]


def predicted(project: Project) -> list[dict[str, Any]]:
    project.await_predictions()
    ((found, *_), *_) = project.predictions().values()
    result: list[dict[str, Any]] = found["result"]
    return result


def test_every_control_and_attribute(backend: Backend, new_project: NewProject, scenes: Scenes) -> None:
    project = new_project(backend.url, label_config=SHAPES)
    project.add_images(scenes.images[:1])
    result = predicted(project)
    stored = Counter((one["from_name"], one["value"][one["type"]][0]) for one in result)
    assert stored["mask", "stone head"] == 1
    assert stored["mask", "Tower"] == 1
    assert stored["outline", "Head"] >= 1
    assert stored["box", "Head"] >= 1
    assert stored["box", "Tower"] >= 1
    assert not any("firefox logo" in pair or "hidden" in pair for pair in stored)
    masks = regions([one for one in result if one["from_name"] == "mask"], ["stone head", "Tower"])
    outlines = regions([one for one in result if one["from_name"] == "outline"], ["Head"])
    boxes = regions([one for one in result if one["from_name"] == "box"], ["Head", "Tower", "cat"])
    head = next(one.mask for one in masks if one.label == "stone head")
    outlined = np.any([one.mask for one in outlines], axis=0)
    boxed = np.any([one.mask for one in boxes if one.label == "Head"], axis=0)
    assert head.shape == SIZE
    assert (outlined & head).sum() / (outlined | head).sum() > 0.85
    assert not (head & ~boxed).any()


def test_labels_that_tasks_bring_along(backend: Backend, new_project: NewProject, scenes: Scenes) -> None:
    project = new_project(backend.url, label_config=DYNAMIC)
    image = "data:image/png;base64," + base64.b64encode(scenes.images[0].read_bytes()).decode()
    labels = ["moai", {"value": "Tower", "alias": "tower", "predicted_values": "tokyo tower"}]
    project.studio.import_tasks(project.id, [{"image": image, "labels": labels}])
    found = [one["value"]["brushlabels"][0] for one in predicted(project)]
    assert sorted(found) == ["moai", "tower"]
