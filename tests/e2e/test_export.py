"""Exports of what the real Label Studio stores: what annotators drew, and what we predicted."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from pycocotools.coco import COCO

from backend.local.demo_project import Scenes
from backend.masks import brush
from tests.e2e.support import LabelStudio, Project, run_command

LABELS = ("moai", "tokyo tower", "firefox logo")
SIZE = (320, 384)


def export(label_studio: LabelStudio, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_command("export", *arguments, studio=label_studio)


def test_annotations_and_predictions_come_out_as_they_were_stored(
    label_studio: LabelStudio, new_project: Callable[..., Project], scenes: Scenes, tmp_path: Path
) -> None:
    project = new_project(labels=LABELS)
    first, second, _ = project.add_images(scenes.images[:3])
    masks = np.zeros((2, *SIZE), bool)
    masks[0, 20:90, 30:120] = True
    masks[0, 40:60, 50:70] = False
    masks[1, 150:300, 200:333] = True
    result = [
        brush.region(mask, label, "mask", "image", None, label) for mask, label in zip(masks, LABELS, strict=False)
    ]
    project.studio.session.send("POST", f"/api/tasks/{first}/annotations/", json={"result": result, "lead_time": 1.0})
    skipped = {"result": [], "was_cancelled": True}
    project.studio.session.send("POST", f"/api/tasks/{second}/annotations/", json=skipped)
    prediction = {"result": [{**result[1], "score": 0.25}], "score": 0.25, "model_version": "car-demo-1-2"}
    assert project.studio.create_prediction(second, prediction)

    common = ("--project", str(project.id), "--out")
    done = export(label_studio, *common, str(tmp_path / "png"), "--format", "png", "--images")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Written to {tmp_path / 'png'}: 1. Without annotations: 2.\n"
    [path] = (tmp_path / "png" / "masks").iterdir()
    assert (np.array(Pillow.open(path)) == np.where(masks[1], 2, masks[0].astype(int))).all()
    [picture] = (tmp_path / "png" / "images").iterdir()
    assert (np.array(Pillow.open(picture)) == np.array(Pillow.open(scenes.images[0]))).all()
    assert picture.name == scenes.images[0].name

    done = export(label_studio, *common, str(tmp_path / "coco"), "--format", "coco", "--source", "predictions")
    assert done.returncode == 0, done.stderr
    coco = COCO(str(tmp_path / "coco" / "annotations.json"))
    [found] = coco.loadAnns(coco.getAnnIds(imgIds=second))
    assert (coco.annToMask(found) == masks[1]).all()
    assert found["score"] == 0.25
    assert tuple(one["name"] for one in coco.loadCats(coco.getCatIds())) == LABELS


def test_what_keeps_an_export_from_beginning_is_told(label_studio: LabelStudio, tmp_path: Path) -> None:
    done = export(label_studio, "--project", "999999", "--format", "coco", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "has no project 999999" in done.stderr
