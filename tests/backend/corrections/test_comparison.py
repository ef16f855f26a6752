from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from backend.corrections.comparison import ComparisonError, boundary_f, compare, outline, union_masks
from backend.corrections.records import Kind
from backend.masks import brush


def region(label: str, *rows: str, control: str = "mask") -> dict[str, Any]:
    mask = np.array([[pixel == "#" for pixel in row] for row in rows])
    return brush.region(mask, label, control, "image", 0.9, "id")


CAT = ("##..", "##..", "....", "....")
MORE = ("###.", "###.", "....", "....")
DOG = ("....", "....", "..##", "..##")


def test_each_label_is_untouched_changed_added_or_removed() -> None:
    predicted = [region("cat", *CAT), region("dog", *DOG), region("moai", *CAT)]
    submitted = [region("dog", *DOG), region("cat", *MORE), region("fish", *DOG)]
    size, changes = compare(predicted, submitted)
    assert size == (4, 4)
    assert {c.label: (c.kind, c.predicted, c.submitted, c.common) for c in changes} == {
        "cat": (Kind.CHANGED, 4, 6, 4),
        "dog": (Kind.UNTOUCHED, 4, 4, 4),
        "moai": (Kind.REMOVED, 4, 0, 0),
        "fish": (Kind.ADDED, 0, 4, 0),
    }
    assert [c.iou for c in changes] == [pytest.approx(4 / 6), 1, 0, 0]


def test_several_regions_of_a_label_are_one() -> None:
    left, right = ("#...", "....", "....", "...."), (".#..", "....", "....", "....")
    _, (change,) = compare([region("cat", "##..", *CAT[2:], "....")], [region("cat", *left), region("cat", *right)])
    assert change.kind is Kind.UNTOUCHED


def test_soft_edges_count_from_half_opaque() -> None:
    soft = np.array([[255, 128, 127, 0]], np.uint8)
    bits = f"{16:032b}" + f"{7:05b}" + "".join(f"{n - 1:04b}" for n in (3, 4, 8, 16))
    for value in soft[0]:  # a run of four values (RGBA) each
        bits += "1" + "00" + f"{3:03b}" + f"{value:08b}"
    bits += "0" * (-len(bits) % 8)
    drawn = region("cat", "##..")
    drawn["value"]["rle"] = [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]
    _, (change,) = compare([region("cat", "##..")], [drawn])
    assert change.kind is Kind.UNTOUCHED


def test_other_controls_and_kinds_of_regions_do_not_count() -> None:
    box = {"type": "rectanglelabels", "from_name": "box", "to_name": "image", "value": {"rectanglelabels": ["cat"]}}
    _, changes = compare([region("cat", *CAT)], [region("cat", *CAT), region("dog", *DOG, control="other"), box])
    assert [change.label for change in changes] == ["cat"]


def test_an_empty_prediction_is_compared_with_whatever_was_drawn() -> None:
    _, (change,) = compare([], [region("cat", *CAT)])
    assert change.kind is Kind.ADDED
    assert compare([], []) == ((0, 0), ())


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (region("cat", "##"), "different size"),
        ({**region("cat", *CAT), "value": {"brushlabels": ["cat"], "rle": [1, 2]}}, "cannot be read"),
        ({**region("cat", *CAT), "value": {"brushlabels": ["cat"]}}, "cannot be read"),
        ({**region("cat", *CAT), "original_width": None}, "does not say how large its image is"),
    ],
)
def test_what_cannot_be_compared_says_why(broken: dict[str, Any], words: str) -> None:
    with pytest.raises(ComparisonError, match=words):
        compare([region("cat", *CAT)], [broken])


def on(place: tuple[str, int], one: dict[str, Any]) -> dict[str, Any]:
    return {**one, "to_name": place[0], "item_index": place[1]}


@pytest.mark.parametrize("place", [("right", 0), ("image", 1)])
def test_each_image_is_compared_by_itself_and_a_label_counts_in_all(place: tuple[str, int]) -> None:
    small = ("#.", "..")
    predicted = [region("cat", *CAT), on(place, region("cat", *small)), region("dog", *DOG)]
    submitted = [
        region("cat", *CAT),
        on(place, region("cat", ".#", "..")),
        on(place, region("fish", *small, control="b")),
    ]
    size, changes = compare(predicted, submitted)
    assert size == (4, 4)
    assert {c.label: (c.kind, c.predicted, c.submitted, c.common) for c in changes} == {
        "cat": (Kind.CHANGED, 5, 5, 4),
        "dog": (Kind.REMOVED, 4, 0, 0),
    }
    _, changes = compare(predicted[:1], submitted)
    assert {c.label: c.kind for c in changes} == {"cat": Kind.CHANGED, "fish": Kind.ADDED}, (
        "an image without prediction"
    )
    assert {label: mask.sum() for label, mask in union_masks(submitted)[place].items()} == {"cat": 1, "fish": 1}


def square(side: int, top: int, left: int, of: int = 200) -> np.ndarray:
    mask = np.zeros((of, of), bool)
    mask[top : top + side, left : left + side] = True
    return mask


@pytest.mark.parametrize(
    ("other", "least", "most"),
    [
        (square(100, 50, 50), 1.0, 1.0),
        (square(100, 52, 50), 1.0, 1.0),  # within the tolerance of 2.1 pixels
        (square(100, 60, 50), 0.4, 0.6),  # two of the four sides still agree
        (square(20, 0, 0), 0.0, 0.0),
        (np.zeros((200, 200), bool), 0.0, 0.0),
    ],
)
def test_edges_agree_within_a_tolerance(other: np.ndarray, least: float, most: float) -> None:
    assert least <= boundary_f(square(100, 50, 50), other) <= most


@given(arrays(bool, (6, 7)), arrays(bool, (6, 7)))
def test_boundary_f_is_symmetric_and_one_for_equal_masks(one: np.ndarray, other: np.ndarray) -> None:
    assert boundary_f(one, other) == pytest.approx(boundary_f(other, one))
    assert 0 <= boundary_f(one, other) <= 1
    assert boundary_f(one, one) == float(one.any())


@given(arrays(bool, (5, 6)), arrays(bool, (5, 6)))
def test_counts_are_those_of_the_masks(one: np.ndarray, other: np.ndarray) -> None:
    results = [[brush.region(mask, "cat", "mask", "image", None, "id")] if mask.any() else [] for mask in (one, other)]
    _, changes = compare(*results)
    assert bool(changes) == bool((one | other).any())
    for change in changes:
        assert (change.predicted, change.submitted) == (one.sum(), other.sum())
        assert change.iou == pytest.approx((one & other).sum() / (one | other).sum())


def test_an_outline_is_small_and_where_the_mask_is() -> None:
    mask = square(100, 50, 100, of=400)
    assert outline(mask) == "M40 20L40 59L79 59L79 20Z"


@given(st.integers(1, 3), st.integers(1, 3))
def test_tiny_images_have_outlines_too(height: int, width: int) -> None:
    assert outline(np.ones((height, width), bool)).startswith("M0 0")
