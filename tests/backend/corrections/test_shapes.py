"""Polygons, rectangles, ellipses and bitmasks compared, with figures computed by hand, and what is not compared."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from backend.corrections.comparison import ComparisonError, compare, union_masks
from backend.corrections.records import Kind
from tests.backend.corrections.shapes import box, polygon, region, square, stroke
from tests.backend.masks.test_shapes import BROKEN, JSON, VALUES, uri

BOTH = [square("cat", 10, 10), square("dog", 50, 20)]


def told(predicted: Any, submitted: Any) -> dict[str, tuple[Kind, float]]:
    return {one.label: (one.kind, one.iou) for one in compare(predicted, submitted)[1]}


@pytest.mark.parametrize(
    ("predicted", "submitted", "expected"),
    [
        pytest.param(BOTH, BOTH, {"cat": (Kind.UNTOUCHED, 1), "dog": (Kind.UNTOUCHED, 1)}, id="untouched"),
        pytest.param(
            BOTH,
            [square("cat", 15, 10), square("dog", 50, 20)],  # 50 of 100 + 100 - 50 pixels
            {"cat": (Kind.CHANGED, 1 / 3), "dog": (Kind.UNTOUCHED, 1)},
            id="moved by half its side",
        ),
        pytest.param(BOTH, BOTH[1:], {"cat": (Kind.REMOVED, 0), "dog": (Kind.UNTOUCHED, 1)}, id="deleted"),
        pytest.param(
            BOTH,
            [square("moai", 10, 10), BOTH[1]],
            {"cat": (Kind.REMOVED, 0), "moai": (Kind.ADDED, 0), "dog": (Kind.UNTOUCHED, 1)},
            id="another label",
        ),
        pytest.param(
            [box("cat", 10, 10, 20, 10)],
            [box("cat", 10, 10, 20, 20)],  # 200 of 400 pixels
            {"cat": (Kind.CHANGED, 1 / 2)},
            id="a rectangle twice as high",
        ),
        pytest.param(
            [box("cat", 10, 10, 10, 20)],
            [box("cat", 20, 10, 20, 10, rotation=90)],  # a quarter turn: the same pixels
            {"cat": (Kind.UNTOUCHED, 1)},
            id="a rectangle that was turned",
        ),
        pytest.param(
            [box("cat", 30, 10, 20, 10)],
            [box("cat", 30, 10, 20, 10, rotation=90)],  # now from 20 to 30: nothing in common
            {"cat": (Kind.CHANGED, 0)},
            id="only the rotation was changed",
        ),
        pytest.param(
            [region("ellipselabels", "cat", {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "rotation": 0})],
            [region("ellipselabels", "cat", {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "rotation": 45})],
            {"cat": (Kind.UNTOUCHED, 1)},
            id="a circle turned: ten pixels each way",
        ),
        pytest.param(
            [square("cat", 10, 10), square("cat", 30, 10)],
            [square("cat", 10, 10)],  # 100 of 200
            {"cat": (Kind.CHANGED, 1 / 2)},
            id="one of two of a label",
        ),
        pytest.param(
            [], [square("cat", 10, 10)], {"cat": (Kind.ADDED, 0)}, id="nothing was predicted, a polygon was drawn"
        ),
        pytest.param([], [], {}, id="nothing on both sides"),
        pytest.param(None, None, {}, id="no results"),
    ],
)
def test_figures_by_hand(predicted: Any, submitted: Any, expected: dict[str, tuple[Kind, float]]) -> None:
    found = told(predicted, submitted)
    assert {label: kind for label, (kind, _) in found.items()} == {label: kind for label, (kind, _) in expected.items()}
    assert {label: iou for label, (_, iou) in found.items()} == pytest.approx(
        {label: iou for label, (_, iou) in expected.items()}, abs=1e-3
    )


def test_every_control_counts_by_itself() -> None:
    """An untouched box does not hide that the brush's mask in it was made smaller: 50 + 200 of 100 + 200 pixels."""
    predicted = [stroke("cat", 15, 10), box("cat", 10, 10, 20, 10)]
    _, (change,) = compare(predicted, [stroke("cat", 15, 10, width=5), predicted[1]])
    assert (change.predicted, change.submitted, change.common) == (300, 250, 250)
    assert change.kind is Kind.CHANGED


def bitmask(label: str, left: int, control: str = "bitmasklabels", kind: str = "bitmasklabels") -> dict[str, Any]:
    pixels = np.zeros((50, 100, 4), np.uint8)
    pixels[10:20, left : left + 10, 3] = 255
    value = {"imageDataURL": uri(Image.fromarray(pixels))}
    return region(kind, label if kind.endswith("labels") else None, value, control)


def test_a_bitmask_is_compared_and_its_label_may_stand_beside_it() -> None:
    assert told([bitmask("cat", 10)], [bitmask("cat", 15)]) == {"cat": (Kind.CHANGED, pytest.approx(1 / 3))}
    apart = [
        {**bitmask("", 10, kind="bitmask"), "id": "a"},
        {"type": "labels", "id": "a", "from_name": "names", "to_name": "image", "value": {"labels": ["cat"]}},
    ]
    assert told([], apart) == {"cat": (Kind.ADDED, 0)}


def test_choices_relations_and_shapes_of_other_controls_do_not_count() -> None:
    others: list[dict[str, Any]] = [
        {"type": "choices", "from_name": "quality", "to_name": "image", "value": {"choices": ["good"]}},
        {"type": "relation", "from_id": "a", "to_id": "b"},
        region("keypointlabels", "cat", {"x": 1, "y": 1}),
        stroke("cat", 0, 0),
    ]
    assert told(BOTH, [*BOTH, *others]) == {"cat": (Kind.UNTOUCHED, 1), "dog": (Kind.UNTOUCHED, 1)}


def test_masks_for_teaching_are_the_most_exact_ones() -> None:
    """The brush's mask, not the box around it; the box where there is nothing else."""
    masks = union_masks([box("cat", 10, 10, 20, 20), stroke("cat", 15, 10), box("dog", 50, 10, 10, 10)])
    assert {label: mask.sum() for label, mask in masks["image", 0].items()} == {"cat": 100, "dog": 100}


MALFORMED = [
    pytest.param({"result": []}, "not a list", id="a result that is no list"),
    pytest.param("cat", "not a list", id="a text"),
    pytest.param([5], "no region", id="a number"),
    pytest.param([None], "no region", id="null"),
    pytest.param([{}], "no region", id="an empty object"),
    pytest.param([{"type": 5}], "no region", id="a type that is a number"),
    pytest.param([{**BOTH[0], "value": None}], "no value", id="value: null"),
    pytest.param([{**BOTH[0], "value": [1]}], "no value", id="a value that is a list"),
    pytest.param([{**BOTH[0], "item_index": "x"}], "item_index", id="a page that is a text"),
    pytest.param([{**BOTH[0], "item_index": True}], "item_index", id="a page that is true"),
    pytest.param([{**BOTH[0], "to_name": None}], "to_name", id="on no image"),
    pytest.param([{**BOTH[0], "from_name": ["polygonlabels"]}], "from_name", id="of a list of controls"),
    pytest.param([{**BOTH[0], "original_width": 1e400}], "how large", id="infinitely wide"),
    pytest.param([{**BOTH[0], "original_width": 99}], "different size", id="another size"),
    pytest.param([{**BOTH[0], "original_width": 10**6, "original_height": 10**6}], "more than", id="a huge image"),
    pytest.param([{**BOTH[0], "value": {**BOTH[0]["value"], "polygonlabels": 5}}], "list of names", id="5 as labels"),
    pytest.param([{**BOTH[0], "value": {**BOTH[0]["value"], "polygonlabels": [5]}}], "list of names", id="[5]"),
    pytest.param([region("keypointlabels", "cat", {"x": 1}, "polygonlabels")], "none of the shapes", id="a key point"),
    pytest.param([region("vectorlabels", "cat", {}, "polygonlabels")], "none of the shapes", id="a vector"),
]


@pytest.mark.parametrize(("submitted", "words"), MALFORMED)
def test_what_is_malformed_is_not_compared(submitted: Any, words: str) -> None:
    with pytest.raises(ComparisonError, match=words):
        compare(BOTH, submitted)


@pytest.mark.parametrize(("kind", "value", "words"), [one for one in BROKEN if one[0] != "keypointlabels"])
def test_broken_regions_are_not_compared_on_either_side(kind: str, value: Any, words: str) -> None:
    labelled = {**value, kind: ["cat"]} if isinstance(value, dict) else value
    names = [{"type": "labels", "id": f"{kind} None", "from_name": "names", "value": {"labels": ["cat"]}}]
    broken = {**region(kind, None, {}, "any", original_width=40, original_height=20), "value": labelled}
    for results in (([], [broken, *names]), ([broken], [])):
        with pytest.raises(ComparisonError):
            compare(*results)


def test_a_shape_without_a_pixel_is_not_compared() -> None:
    """Deleted or not: there is nothing that could be measured."""
    speck = polygon("cat", (10.1, 10.1), (10.3, 10.1), (10.1, 10.3))
    for submitted in ([speck], []):
        with pytest.raises(ComparisonError, match="cover no pixel"):
            compare([speck], submitted)


REGIONS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["brushlabels", "polygonlabels", "rectanglelabels", "bitmask", "labels", "choices"])
        | JSON,
        "value": VALUES,
        "from_name": st.just("polygonlabels") | JSON,
        "to_name": st.just("image") | JSON,
        "original_width": st.just(100) | JSON | st.integers(1, 10**7),
        "original_height": st.just(50) | JSON | st.integers(1, 10**7),
        "item_index": st.integers(0, 2) | JSON,
        "id": JSON,
    },
)


@given(st.lists(REGIONS | JSON, max_size=3) | JSON, st.booleans())
def test_any_json_is_compared_or_a_comparison_error(result: Any, empty: bool) -> None:
    for arguments in (([] if empty else BOTH, result), (result, BOTH)):
        try:
            size, changes = compare(*arguments, most_pixels=10_000)
        except ComparisonError:
            continue
        assert size[0] * size[1] <= 10_000
        assert all(change.union > 0 and 0 <= change.iou <= 1 for change in changes)


def test_a_huge_image_is_refused_before_any_memory_is_taken() -> None:
    huge = {"original_width": 10_000, "original_height": 10_000}
    tracemalloc.start()
    try:
        with pytest.raises(ComparisonError, match="more than the 120,000,000 pixels"):
            compare([], [square("cat", 0, 0, **{**huge, "original_width": 12_001})], most_pixels=120_000_000)
        with pytest.raises(ComparisonError, match="different size"):
            compare(BOTH, [square("cat", 0, 0, **huge)], most_pixels=120_000_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1e6
