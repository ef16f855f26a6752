"""`--calibrate --settings` on a project: images and submitted masks are read from Label Studio."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable

import numpy as np
import pytest
from PIL import Image
from redis import Redis

from backend.corrections import calibrate_project
from backend.corrections.corrector import Corrector
from backend.corrections.proposals import ProposalError, kept
from backend.corrections.records import OTHER, Correction
from backend.labeling.parsing import parse_config
from backend.masks import brush
from backend.queue.job import job_of
from backend.settings import Settings
from tests.backend.conftest import MemoryStudio
from tests.backend.corrections.test_trials import LABELS, Sees, truth

XML = """<View><Image name="image" value="$image"/><BrushLabels name="mask" toName="image">
<Label value="cat"/><Label value="dog" alias="hound"/></BrushLabels></View>"""


def image(shade: int) -> dict[str, str]:
    """The data of a task with a picture of one shade."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((20, 20, 3), shade, np.uint8)).save(buffer, "PNG")
    return {"image": f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"}


def studio_with_images(tasks: Iterable[int] = (), config: str = XML) -> MemoryStudio:
    """Tasks whose picture tells which labels are there, each with one annotation of just these."""
    studio, names = MemoryStudio(config=config), {"cat": "cat", "dog": "hound"}
    for task in tasks:
        there = [label for bit, label in enumerate(LABELS) if bits(task) >> bit & 1]
        regions = [brush.region(truth(label), names[label], "mask", "image", None, label) for label in there]
        studio.hold({"id": task, "data": image(bits(task)), "annotations": [{"id": task, "result": regions}]})
    return studio


def correction(task: int, why: str = "", fingerprint: str = "") -> Correction:
    return Correction(1, task, task, "v", float(task), None, (20, 20), (), {}, why, fingerprint)


def test_tasks_that_were_not_compared_are_left_out_and_broken_regions_named(redis: Redis, settings: Settings) -> None:
    studio = studio_with_images((1, 2, 3))
    corrector = Corrector(redis, settings, studio)  # type: ignore[arg-type]
    config = parse_config(XML, "demo")
    for task, why in ((1, ""), (2, "broken"), (3, "")):
        corrector.corrections.replace(1, task, [correction(task, why)])
    found = calibrate_project.newest(corrector, settings, 1, config)
    assert [one.task for one in found] == [1, 3]
    assert {label: mask.sum() for label, mask in found[0].masks().items()} == {"dog": truth("dog").sum()}
    studio.annotated = {1: [{"id": 1, "result": [5]}]}
    for one, reason in zip(found, ("no region", "its annotation is gone"), strict=True):
        with pytest.raises(ProposalError, match=f"regions of task {one.task} cannot be read any more.*{reason}"):
            one.masks()


def test_tasks_that_show_another_image_or_are_gone_are_left_out(redis: Redis, settings: Settings) -> None:
    """Task 1 shows what was annotated; a record of an earlier release (task 2) does not say what that was."""
    studio, config = studio_with_images(range(1, 8)), parse_config(XML, "demo")
    corrector = Corrector(redis, settings, studio)  # type: ignore[arg-type]
    for task in range(1, 8):
        job = job_of({"id": task, "data": image(bits(task))}, 1, config, config.version())
        assert job is not None
        corrector.corrections.replace(1, task, [correction(task, fingerprint=job.fingerprint)])
    corrector.corrections.replace(1, 2, [correction(2)])
    corrector.corrections.replace(1, 3, [correction(3, fingerprint=OTHER)])
    studio.data[4] = image(99)
    studio.data[5] = {}
    studio.owner[6] = 2
    studio.delete(7)
    assert [one.task for one in calibrate_project.newest(corrector, settings, 1, config)] == [1, 2]
    studio.projects_there = set()
    assert calibrate_project.newest(corrector, settings, 1, config) == []


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
    corrector = Corrector(redis, settings, studio_with_images(range(1, 13)))  # type: ignore[arg-type]
    for task in range(1, 13):
        corrector.corrections.replace(1, task, [correction(task)])
    found = calibrate_project.calibrate_project(corrector, settings, 1, seed=0)
    assert found is not None
    assert found.proposal.accepted, found.proposal.reason
    assert (found.proposal.eta, found.proposal.lambda_) == (0.4, 0.7)
    assert set(found.proposal.thresholds) == {"cat", "hound"}, "by the names that are stored"
    assert kept(redis, 1) == found
    assert found.waits(found.version)
