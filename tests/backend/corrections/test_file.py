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
from backend.corrections.records import Correction
from backend.masks import brush
from backend.settings import Settings

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


class MemoryStudio:
    """What a picture needs of Label Studio."""

    def __init__(self, *drawn: str) -> None:
        self.drawn = drawn

    def authorization(self) -> dict[str, str]:
        return {}

    def project(self, number: int) -> dict[str, Any]:
        return {"label_config": XML}

    def task(self, number: int, project: int) -> dict[str, Any]:
        return {"data": {name: image(name) for name in SIZES}}

    def annotations(self, task: int) -> list[dict[str, Any]]:
        return [{"id": 5, "result": [region(name) for name in self.drawn]}]

    def predictions(self, task: int) -> list[dict[str, Any]]:
        return [{"id": 1, "model_version": "v", "result": [region("a")] if self.drawn else []}]


@pytest.mark.parametrize(("drawn", "height"), [((), 20), (("a",), 20), (("a", "b"), 58), (("b",), 58)])
def test_images_that_somebody_drew_on_stand_below_each_other(
    settings: Settings, drawn: tuple[str, ...], height: int
) -> None:
    studio = MemoryStudio(*drawn)
    size, changes = compare(studio.predictions(7)[0]["result"], studio.annotations(7)[0]["result"])
    correction = Correction(1, 7, 5, "v", 0.0, None, size, changes)
    uri = _picture(correction, studio, settings)  # type: ignore[arg-type]
    shown = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert max(max(pair) for pair in SIZES.values()) < SIDE, "images are not scaled"
    assert shown.size == (3 * 40, height)
