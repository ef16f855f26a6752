"""The worker's part on the demo CLIP: jobs with a question become regions of the label asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend.interactive.asks import Ask, Box, Point
from backend.interactive.desk import Desk
from backend.interactive.present import present
from backend.labeling.config import Picture
from backend.labeling.parsing import parse_config
from backend.masks import brush
from backend.masks.results import regions_of
from backend.queue.job import Job
from backend.settings import Settings
from model.presets import DEMO, Preset
from model.segmenter import Segmenter
from model.weights import WeightsError
from tests.weights import CLIP

pytestmark = pytest.mark.slow

XML = """<View><Image name="image" value="$image"/>
<RectangleLabels name="ask" toName="image" smartOnly="true"><Label value="Head"/></RectangleLabels>
<PolygonLabels name="outline" toName="image"><Label value="Head" alias="stone head" car_prompt="moai"/>
</PolygonLabels>
<BrushLabels name="mask" toName="image"><Label value="Tower"/><Label value="Head" alias="stone head" car_prompt="moai"/>
</BrushLabels></View>"""
CONFIG = parse_config(XML, "demo")
IMAGE = np.asarray(Image.open(DEMO / "scenes" / "studio" / "images" / "000.png").convert("RGB"))
HEIGHT, WIDTH = IMAGE.shape[:2]
MOAI = (80.0, 60.0)
"""In the moai, in percent."""


@pytest.fixture(scope="module")
def segmenter() -> Callable[[Preset], Segmenter]:
    loaded = Segmenter(CONFIG.model_preset(CONFIG.images[0]), "cpu", str(CLIP))
    return lambda preset: loaded


def ask_for(label: str, series: str, **more: Any) -> Ask:
    return Ask("image", None, label, series, **more)


def asked(ask: Ask) -> Job:
    return Job(1, 7, (Picture("image", "/data/upload/1/7.png"),), CONFIG, CONFIG.version(), ask=ask)


def answered(desk: Desk, ask: Ask) -> list[dict[str, Any]]:
    job = asked(ask)
    found = desk.answer(job, lambda: IMAGE)
    return regions_of(job, job.pictures[0], found)


def mask_of(region: dict[str, Any]) -> np.ndarray:
    return brush.decode(region["value"]["rle"], HEIGHT, WIDTH) > 127


def test_a_region_is_a_brush_of_the_label(settings: Settings, segmenter: Callable[..., Segmenter]) -> None:
    desk = Desk(settings, segmenter)
    for ask in (
        ask_for("Head", "text", text="the moai"),
        ask_for("Head", "a", points=(Point(*MOAI),)),
        ask_for("Head", "b", boxes=(Box(66, 42, 30, 50),)),
    ):
        (region,) = answered(desk, ask)
        assert region["from_name"] == "mask"
        assert region["to_name"] == "image"
        assert region["type"] == "brushlabels"
        assert region["value"]["brushlabels"] == ["stone head"]
        assert (region["original_width"], region["original_height"]) == (WIDTH, HEIGHT)
        assert 0 < region["score"] <= 1
        mask = mask_of(region)
        assert mask[int(MOAI[1] * HEIGHT / 100), int(MOAI[0] * WIDTH / 100)]


def test_ids_stay_within_a_series(settings: Settings, segmenter: Callable[..., Segmenter]) -> None:
    desk = Desk(settings, segmenter)
    (first,) = answered(desk, ask_for("Head", "a", points=(Point(*MOAI),)))
    (refined,) = answered(desk, ask_for("Head", "a", points=(Point(*MOAI), Point(2, 2, inside=False))))
    (other,) = answered(desk, ask_for("Head", "b", points=(Point(*MOAI),)))
    assert first["id"] == refined["id"] != other["id"]


def test_each_box_is_a_region(settings: Settings, segmenter: Callable[..., Segmenter]) -> None:
    boxes = (Box(66, 42, 30, 50), Box(45, 45, 15, 27))
    regions = answered(Desk(settings, segmenter), ask_for("Head", "b", boxes=boxes))
    assert len({region["id"] for region in regions}) == 2
    for region, box in zip(regions, boxes, strict=True):
        rows, columns = np.nonzero(mask_of(region))
        assert columns.min() >= int(box.x * WIDTH / 100)
        assert columns.max() <= (box.x + box.width) * WIDTH / 100
        assert rows.min() >= int(box.y * HEIGHT / 100)


def test_what_is_not_there_is_no_region(settings: Settings, segmenter: Callable[..., Segmenter]) -> None:
    desk = Desk(settings, segmenter)
    assert answered(desk, ask_for("Tower", "t", text="a guitar")) == []
    assert answered(desk, ask_for("Head", "b", boxes=(Box(-50, -50, 10, 10, 3),))) == []


def test_an_image_is_fetched_once_for_clicks_in_a_row(settings: Settings, segmenter: Callable[..., Segmenter]) -> None:
    desk, fetched = Desk(settings, segmenter), []

    def fetch() -> np.ndarray:
        fetched.append(1)
        return IMAGE

    for x in (79.0, 80.0, 81.0):
        desk.answer(asked(ask_for("Head", "a", points=(Point(x, MOAI[1]),))), fetch)
    assert len(fetched) == 1
    desk.answer(replace(asked(ask_for("Head", "a", points=(Point(*MOAI),))), task=8), fetch)
    assert len(fetched) == 2


def test_hq_sam_answers_where_its_weights_are_given(settings: Settings, segmenter: Callable[..., Segmenter]) -> None:
    chosen = settings.model_copy(update={"car_sam": "vit_tiny", "car_sam_weights": "random"})
    desk = Desk(chosen, segmenter)
    for series in "ab":
        answered(desk, ask_for("Head", series, points=(Point(*MOAI),)))
    answered(desk, ask_for("Head", "c", boxes=(Box(66, 42, 30, 50),)))
    assert desk._own_sam("cpu").looks == 1, "the embedding is remembered"


def test_missing_weights_are_named(settings: Settings, segmenter: Callable[..., Segmenter], tmp_path: Path) -> None:
    lacking = settings.model_copy(update={"car_sam": "vit_tiny", "car_sam_weights": str(tmp_path / "sam.pth")})
    desk = Desk(lacking, segmenter)
    with pytest.raises(WeightsError, match=r"There is no file of weights .*sam\.pth"):
        answered(desk, ask_for("Head", "a", points=(Point(*MOAI),)))
    assert answered(desk, ask_for("Head", "t", text="the moai")), "a text needs none of them"


def test_an_answer_takes_the_place_of_a_mask_that_is_much_the_same(
    settings: Settings, segmenter: Callable[..., Segmenter]
) -> None:
    desk = Desk(settings, segmenter)
    ask = ask_for("Head", "a", points=(Point(*MOAI),))
    (before,) = answered(desk, ask)
    tower = np.zeros((HEIGHT, WIDTH), bool)
    tower[:40, :40] = True
    others = [
        brush.region(tower, "stone head", "mask", "image", 1.0, "elsewhere"),
        {**before, "id": "of another label", "value": {**before["value"], "brushlabels": ["Tower"]}},
        {**before, "id": "broken", "value": {**before["value"], "rle": [300]}},
        {**before, "id": "another size", "value": {**before["value"], "rle": brush.encode(tower[:40, :40])}},
        {"id": 7, "value": None},
        "no region",
    ]
    task = {"predictions": [{"result": [*others, {**before, "id": "there"}]}, None], "drafts": "none"}
    known = present(task, ask, CONFIG)
    assert [one.id for one in known] == ["elsewhere", "another size", "there"]
    (after,) = answered(desk, replace(ask, present=known))
    assert after == {**before, "id": "there"}
    (alone,) = answered(desk, replace(ask, present=known[:2]))
    assert alone == before
