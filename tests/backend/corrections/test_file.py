"""Pictures of corrections: every image of a task that somebody drew on."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend.corrections.comparison import compare
from backend.corrections.file import SIDE, _picture
from backend.corrections.records import OTHER, Correction
from backend.labeling.parsing import parse_config
from backend.masks import brush
from backend.queue.job import job_of
from backend.settings import Settings
from tests.backend.conftest import MemoryStudio

XML = """<View><Image name="a" value="$a"/><Image name="b" value="$b"/>
<BrushLabels name="mask" toName="a"><Label value="cat"/></BrushLabels>
<BrushLabels name="other" toName="b"><Label value="cat"/></BrushLabels></View>"""
SIZES = {"a": (20, 40), "b": (30, 30)}


def image(name: str) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", SIZES[name][::-1]).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def region(name: str) -> dict[str, Any]:
    return brush.region(np.ones(SIZES[name], bool), "cat", {"a": "mask", "b": "other"}[name], name, 0.9, name)


@pytest.fixture
def studio() -> MemoryStudio:
    """Task 7 with an empty prediction and an empty annotation."""
    studio = MemoryStudio(config=XML)
    studio.hold(
        {
            "id": 7,
            "data": {name: image(name) for name in SIZES},
            "predictions": [{"id": 1, "model_version": "v", "result": []}],
            "annotations": [{"id": 5, "result": []}],
        }
    )
    return studio


def corrected(studio: MemoryStudio, fingerprint: str = "") -> Correction:
    size, changes = compare(studio.stored[7][0]["result"], studio.annotated[7][0]["result"])
    return Correction(1, 7, 5, "v", 0.0, None, size, changes, fingerprint=fingerprint)


def shown(correction: Correction, studio: MemoryStudio, settings: Settings) -> Image.Image:
    uri = _picture(correction, studio, settings)  # type: ignore[arg-type]
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


@pytest.mark.parametrize(("drawn", "height"), [((), 20), (("a",), 20), (("a", "b"), 58), (("b",), 58)])
def test_images_that_somebody_drew_on_stand_below_each_other(
    settings: Settings, studio: MemoryStudio, drawn: tuple[str, ...], height: int
) -> None:
    studio.stored[7][0]["result"] = [region("a")] if drawn else []
    studio.annotated[7][0]["result"] = [region(name) for name in drawn]
    picture = shown(corrected(studio), studio, settings)
    assert max(max(pair) for pair in SIZES.values()) < SIDE, "images are not scaled"
    assert picture.size == (3 * 40, height)


def fingerprint_of(data: dict[str, str]) -> str:
    config = parse_config(XML, "demo")
    job = job_of({"id": 7, "data": data}, 1, config, config.version())
    assert job is not None
    return job.fingerprint


def test_the_images_that_were_annotated_are_shown(settings: Settings, studio: MemoryStudio) -> None:
    correction = corrected(studio, fingerprint_of(studio.data[7]))
    assert shown(correction, studio, settings).size == (3 * 40, 20)


@pytest.mark.parametrize("change", ["image", "tags", "other", "gone", "project"])
def test_a_task_of_other_images_or_none_is_shown_without_its_picture(
    settings: Settings, studio: MemoryStudio, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    correction = corrected(studio, OTHER if change == "other" else fingerprint_of(studio.data[7]))
    if change == "image":
        studio.data[7] = {**studio.data[7], "b": image("a")}
    elif change == "tags":
        studio.data[7] = {"a": image("b"), "b": image("a")}
    elif change == "gone":
        studio.delete(7)
    elif change == "project":
        studio.owner[7] = 2
    assert _picture(correction, studio, settings) == ""  # type: ignore[arg-type]
    assert "task 7 is shown without its picture: the task is gone or shows another image now" in caplog.text
