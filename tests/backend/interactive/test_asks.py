"""Contexts as the real editor sends them (docs/interactive.md), and contexts that nobody should send."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.interactive.asks import MOST_BOXES, MOST_POINTS, MOST_TEXT, Ask, AskError, Box, Point, pixel, read, within
from backend.labeling.parsing import LabelingConfig, for_task, parse_config
from tests.backend.conftest import CONFIG

CONFIGURED = parse_config(CONFIG, "demo")
FRAME = {"original_width": 384, "original_height": 320, "image_rotation": 0}


def context(*regions: object) -> dict[str, Any]:
    return {"result": list(regions)}


def asked(label: str, series: str, **more: Any) -> Ask:
    return Ask("image", None, label, series, **more)


def text(*texts: object, **more: Any) -> dict[str, Any]:
    return {
        "value": {"text": list(texts)},
        "id": "Y_8gBp2OiQ",
        "from_name": "prompt",
        "to_name": "image",
        "type": "textarea",
        "origin": "manual",
        **more,
    }


def click(x: object, y: object, label: object = "cat", region: str = "Wy9YnVxQ1q", **more: Any) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": 0.236, "labels": [label], "keypointlabels": [label]}
    drawn = {"value": value, "is_positive": True, "id": region, "from_name": "point", "to_name": "image"}
    return {**FRAME, **drawn, "type": "keypointlabels", "origin": "manual", **more}


def box(x: object, y: object, width: object, height: object, rotation: object = 0, **more: Any) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation, "rectanglelabels": ["statue"]}
    drawn = {"value": value, "id": "bx", "from_name": "box", "to_name": "image", "type": "rectanglelabels"}
    return {**FRAME, **drawn, **more}


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (
            text("the red apple on the left"),
            asked("cat", "the red apple on the left", text="the red apple on the left"),
        ),
        (text("a dog", "the  Moai\n on the left"), asked("moai", "the moai on the left", text="the Moai on the left")),
        (text("my statue's hat"), asked("moai", "my statue's hat", text="my statue's hat")),
        (text("concatenated"), asked("cat", "concatenated", text="concatenated")),
        (text(), None),
        (text('"/"'), None),
        (text(" \x00 "), None),
        (text("half a pair \ud800"), asked("cat", "half a pair", text="half a pair")),
        (click(52.05, 46.88), asked("cat", "Wy9YnVxQ1q", points=(Point(52.05, 46.88),))),
        (click(0, 100, "statue"), asked("moai", "Wy9YnVxQ1q", points=(Point(0, 100),))),
        (click(0, 100, "moai"), asked("moai", "Wy9YnVxQ1q", points=(Point(0, 100),))),
        (box(10, 20, 30, 40), asked("moai", "bx", boxes=(Box(10, 20, 30, 40),))),
        (box(-5, 20, 130, 40), asked("moai", "bx", boxes=(Box(-5, 20, 130, 40),))),
        (click(1, 1, to_name="another"), None),
    ],
)
def test_what_the_editor_sends(sent: dict[str, Any], expected: Ask | None) -> None:
    assert read(context(sent), CONFIGURED) == expected


def test_nothing_is_left_of_what_was_drawn() -> None:
    assert read(context(), CONFIGURED) is None


def test_points_of_one_label_come_together_the_first_names_them() -> None:
    others = click(9, 9, "statue", "other")
    found = read(context(others, click(1, 2), click(3, 4, region="b", is_positive=False)), CONFIGURED)
    assert found == asked("cat", "Wy9YnVxQ1q", points=(Point(1, 2), Point(3, 4, False)))


def test_a_tool_without_labels_gets_the_first() -> None:
    sent = {"value": {"x": 1, "y": 2, "width": 0.2}, "id": "k", "to_name": "image", "type": "keypoint"}
    assert read(context(sent), CONFIGURED) == asked("cat", "k", points=(Point(1, 2),))


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (text("a" * (MOST_TEXT + 1)), "the text has 301 characters; 300 are read at most"),
        (text(7), "the text is no text"),
        (text(None), "the text is no text"),
        (text(["nested"]), "the text is no text"),
        (click(100.01, 5), "a point is outside of the image"),
        (click(-0.1, 5), "a point is outside of the image"),
        (click(math.nan, 5), "x, y must be numbers"),
        (click(5, math.inf), "x, y must be numbers"),
        (click("5", 5), "x, y must be numbers"),
        (click(True, 5), "x, y must be numbers"),
        (click(10**400, 5), "x, y must be numbers"),
        (click(5, 5, is_positive="no"), "is_positive must be true or false"),
        (click(5, 5, is_positive=False), "only points of what is not meant"),
        (click(5, 5, "dog"), "the smart tool's label 'dog' is none of those that take masks: cat, moai"),
        (click(5, 5, "x" * 9999), "the smart tool's label"),
        (box(5, 5, 0, 10), "a box is empty"),
        (box(5, 5, -3, 10), "a box is empty"),
        (box(100, 5, 3, 10), "a box is outside of the image"),
        (box(-30, 5, 20, 10), "a box is outside of the image"),
        (box(5, 5, math.nan, 10), "must be numbers"),
        (box(5, 5, 10, 10, "90"), "must be numbers"),
        (box(5, 5, 10, 1e9), "must be numbers"),
        ({**click(5, 5), "value": {"x": 5, "y": 5, "radiusX": 2, "radiusY": 2}}, "only texts, key points and rect"),
        ({**click(5, 5), "value": {"format": "rle", "rle": [0]}}, "only texts, key points and rectangles"),
        (click(5, 5, item_index="1"), "item_index is no number"),
        ({**click(5, 5), "value": None}, "a region has no value"),
        ("nothing of that kind", "the context must be"),
    ],
)
def test_what_nobody_should_send(sent: object, message: str) -> None:
    with pytest.raises(AskError, match=message):
        read(context(sent), CONFIGURED)


@pytest.mark.parametrize("sent", [None, [], "text", 7, {}, {"result": None}, {"result": "text"}])
def test_a_context_that_is_none(sent: object) -> None:
    with pytest.raises(AskError, match="the context must be"):
        read(sent, CONFIGURED)


def test_many_points_and_boxes_are_refused() -> None:
    with pytest.raises(AskError, match="101 points are more than the 100"):
        read(context(*[click(1, 1)] * (MOST_POINTS + 1)), CONFIGURED)
    with pytest.raises(AskError, match="9 boxes are more than the 8"):
        read(context(*[box(1, 1, 2, 2)] * (MOST_BOXES + 1)), CONFIGURED)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "x", "y"]), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.builds(lambda value: {"value": value, "to_name": "image"}, json_values), max_size=3))
def test_any_context_is_read_or_refused(regions: list[object]) -> None:
    with suppress(AskError):
        found = read(context(*regions), CONFIGURED)
        assert found is None or Ask.from_json(found.to_json()) == found


def test_labels_that_only_the_task_has() -> None:
    xml = CONFIG.replace('toName="image">', 'toName="image" value="$labels">')
    config: LabelingConfig = for_task(parse_config(xml, "demo"), {"labels": ["dog"]})
    assert read(context(click(5, 5, "dog")), config) == asked("dog", "Wy9YnVxQ1q", points=(Point(5, 5),))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Box(10, 20, 30, 40), (10, 10, 40, 30)),
        (Box(-10, -20, 200, 400), (0, 0, 100, 50)),
        (Box(0, 0, 0.1, 0.1), (0, 0, 1, 1)),
        (Box(50, 50, 10, 20, 90), (40, 25, 50, 35)),  # about its upper left corner, clockwise
        (Box(50, 50, 10, 20, 180), (40, 15, 50, 25)),
        (Box(0, 0, 10, 20, 180), None),
    ],
)
def test_boxes_in_pixels(given: Box, expected: tuple[int, ...] | None) -> None:
    assert within(given, height=50, width=100) == expected


@pytest.mark.parametrize(("x", "y", "expected"), [(0, 0, (0, 0)), (100, 100, (99, 49)), (50.5, 3, (50, 1))])
def test_points_in_pixels(x: float, y: float, expected: tuple[int, int]) -> None:
    assert pixel(Point(x, y), height=50, width=100) == expected


def test_of_several_images_the_newest_is_meant() -> None:
    xml = """<View><Image name="a" value="$a"/><Image name="b" valueList="$b"/>
    <BrushLabels name="m" toName="a"><Label value="cat"/></BrushLabels>
    <BrushLabels name="n" toName="b"><Label value="dog"/></BrushLabels></View>"""
    config = parse_config(xml, "demo")
    drawn = click(1, 2, "dog", to_name="b", item_index=3), click(5, 6, "dog", to_name="b", item_index=2)
    assert read(context(*drawn), config) == Ask("b", 2, "dog", "Wy9YnVxQ1q", points=(Point(5, 6),))
    assert read(context(text("a thing", to_name="a")), config) == Ask("a", None, "cat", "a thing", text="a thing")
