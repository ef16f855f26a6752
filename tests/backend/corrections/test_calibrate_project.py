"""`--calibrate --settings` on a project: images and submitted masks are read from Label Studio."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from redis import Redis

from backend.corrections import calibrate_project
from backend.corrections.corrector import Corrector
from backend.corrections.proposals import ProposalError, kept
from backend.corrections.records import Correction
from backend.labeling.parsing import parse_config
from backend.masks import brush
from backend.settings import Settings
from tests.backend.corrections.test_trials import LABELS, Sees, truth

XML = """<View><Image name="image" value="$image"/><BrushLabels name="mask" toName="image">
<Label value="cat"/><Label value="dog" alias="hound"/></BrushLabels></View>"""


class StudioWithImages:
    """Tasks whose picture tells which labels are there, each with one annotation of just these."""

    def project(self, number: int) -> dict[str, Any]:
        return {"id": number, "label_config": XML}

    def authorization(self) -> dict[str, str]:
        return {}

    def task(self, number: int, project: int) -> dict[str, Any]:
        buffer = io.BytesIO()
        Image.fromarray(np.full((20, 20, 3), bits(number), np.uint8)).save(buffer, "PNG")
        return {"data": {"image": f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"}}

    def annotations(self, task: int) -> list[dict[str, Any]]:
        names = {"cat": "cat", "dog": "hound"}
        there = [label for bit, label in enumerate(LABELS) if bits(task) >> bit & 1]
        regions = [brush.region(truth(label), names[label], "mask", "image", None, label) for label in there]
        return [{"id": task, "result": regions}]


def test_tasks_that_were_not_compared_are_left_out_and_broken_regions_named(redis: Redis, settings: Settings) -> None:
    studio = StudioWithImages()
    corrector = Corrector(redis, settings, studio)  # type: ignore[arg-type]
    config = parse_config(XML, "demo")
    for task, why in ((1, ""), (2, "broken"), (3, "")):
        one = Correction(1, task, task, "v", float(task), None, (20, 20), (), {}, why)
        corrector.corrections.replace(1, task, [one])
    found = calibrate_project.newest(corrector, settings, 1, config)
    assert [one.task for one in found] == [1, 3]
    assert {label: mask.sum() for label, mask in found[0].masks().items()} == {"dog": truth("dog").sum()}
    broken = [{"id": 1, "result": [5]}]
    studio.annotations = lambda task: broken if task == 1 else []  # type: ignore[method-assign]
    for one, reason in zip(found, ("no region", "its annotation is gone"), strict=True):
        with pytest.raises(ProposalError, match=f"regions of task {one.task} cannot be read any more.*{reason}"):
            one.masks()


BOXES = '<RectangleLabels name="a" toName="image"{}><Label value="cat"/></RectangleLabels>'


@pytest.mark.parametrize(
    ("controls", "pixels"),
    [
        (BOXES.format(""), 6 * 8),
        (BOXES.format(' car_instances="components"'), 8),
        (BOXES.format("") + '<BrushLabels name="b" toName="image"><Label value="cat"/></BrushLabels>', 7),
        ('<PolygonLabels name="a" toName="image"><Label value="cat"/></PolygonLabels>', 7),
    ],
)
def test_a_project_of_rectangles_draws_boxes(controls: str, pixels: int) -> None:
    """A mask of two parts: three pixels in a corner of 2 x 2, and four in a row at the other end of 6 x 8 pixels."""
    mask = np.zeros((20, 20), bool)
    mask[2:4, 3:5] = [[True, True], [True, False]]
    mask[7, 7:11] = True
    (image,) = parse_config(f'<View><Image name="image" value="$image"/>{controls}</View>', "demo").images
    assert calibrate_project.drawing(image)(mask).sum() == pixels


def bits(task: int) -> int:
    return 1 + task % 3


def test_settings_are_tried_on_what_was_corrected(
    redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate_project, "Segmenter", lambda *_: Sees())
    corrector = Corrector(redis, settings, StudioWithImages())  # type: ignore[arg-type]
    for task in range(1, 13):
        corrector.corrections.replace(1, task, [Correction(1, task, task, "v", float(task), None, (20, 20), ())])
    found = calibrate_project.calibrate_project(corrector, settings, 1, seed=0)
    assert found is not None
    assert found.proposal.accepted, found.proposal.reason
    assert (found.proposal.eta, found.proposal.lambda_) == (0.4, 0.7)
    assert set(found.proposal.thresholds) == {"cat", "hound"}, "by the names that are stored"
    assert kept(redis, 1) == found
    assert found.waits(found.version)
