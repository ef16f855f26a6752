"""Matching on masks of 8 x 8 pixels that one can check by eye, and on random ones against counting pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from model.matching import Proposals, iou, matched, overlaps, resolved, voted


def pixels(text: str) -> np.ndarray:
    """Read a drawing: `.` is 0, `#` is 1, a digit itself."""
    rows = [line.strip() for line in text.strip().splitlines()]
    return np.array([[{".": 0, "#": 1}.get(c) if c in ".#" else int(c) for c in row] for row in rows])


def mask(text: str) -> np.ndarray:
    return pixels(text).astype(bool)


SQUARE = mask("""
........
.####...
.####...
.####...
.####...
........
........
........
""")
LEFT_HALF = mask("""
........
.##.....
.##.....
.##.....
.##.....
........
........
........
""")
RIGHT_HALF_AND_MORE = mask("""
........
...##...
...##...
...##...
...###..
........
........
........
""")
CORNER = mask("""
........
........
........
........
....##..
....##..
........
........
""")
EVERYTHING = np.ones((8, 8), bool)


def test_overlaps_by_eye() -> None:
    found = overlaps(SQUARE[None], Proposals.of_masks(np.stack([LEFT_HALF, RIGHT_HALF_AND_MORE, CORNER, EVERYTHING])))
    assert found.common.tolist() == [[8, 8, 1, 16]]
    assert found.masks.tolist() == [16]
    assert found.regions.tolist() == [8, 9, 4, 64]
    np.testing.assert_allclose(found.iom, [[1, 8 / 9, 1 / 4, 1]])
    np.testing.assert_allclose(found.iou, [[8 / 16, 8 / 17, 1 / 19, 16 / 64]])


@pytest.mark.parametrize(
    ("regions", "options", "expected"),
    [
        pytest.param([LEFT_HALF, RIGHT_HALF_AND_MORE], {}, LEFT_HALF | RIGHT_HALF_AND_MORE, id="parts are united"),
        pytest.param([LEFT_HALF], {}, SQUARE, id="half of it has an IoU of 0.5: not enough"),
        pytest.param([LEFT_HALF], {"phi_iou": 0.4}, LEFT_HALF, id="enough for 0.4"),
        pytest.param([LEFT_HALF], {"phi_iou": 0.5}, SQUARE, id="0.5 does not exceed 0.5"),
        pytest.param([RIGHT_HALF_AND_MORE], {"phi_iou": 0.4, "phi_iom": 0.89}, SQUARE, id="IoM of 8/9 is below 0.89"),
        pytest.param([CORNER], {"phi_iou": 0.0}, SQUARE, id="none fits"),
        pytest.param([CORNER], {"phi_iou": 0.0, "best": True}, CORNER, id="none fits, the best is taken"),
        pytest.param([~SQUARE], {"phi_iou": 0.0, "best": True}, SQUARE, id="not one that does not touch it"),
        pytest.param([EVERYTHING, LEFT_HALF], {}, SQUARE, id="what covers everything spoils the union"),
        pytest.param([LEFT_HALF], {"phi_iou": 0.4, "guard": 0.6}, SQUARE, id="guard: a part of half is too small"),
        pytest.param([LEFT_HALF], {"phi_iou": 0.4, "guard": 0.5}, LEFT_HALF, id="guard: half is half"),
        pytest.param([], {}, SQUARE, id="no regions"),
    ],
)
def test_replacing_by_eye(regions: list[np.ndarray], options: dict[str, float], expected: np.ndarray) -> None:
    stacked = np.stack(regions) if regions else np.zeros((0, 8, 8), bool)
    before = SQUARE.copy()
    np.testing.assert_array_equal(matched(SQUARE[None], Proposals.of_masks(stacked), **options)[0], expected)
    np.testing.assert_array_equal(before, SQUARE)


def test_the_higher_score_has_the_pixel() -> None:
    masks = np.stack([SQUARE, CORNER])
    assert resolved(masks, np.array([0.3, 0.9]))[4, 4] == 2
    assert resolved(masks, np.array([0.9, 0.3]))[4, 4] == 1
    assert resolved(masks, np.array([0.5, 0.5]))[4, 4] == 1
    np.testing.assert_array_equal(resolved(masks, np.array([0.3, 0.9])) > 0, SQUARE | CORNER)


INDEX = pixels("""
........
.111....
.1111...
.1112...
.1122...
....2...
........
........
""").astype(np.uint16)


def test_regions_vote_by_eye() -> None:
    after = voted(INDEX, Proposals.of_masks(np.stack([SQUARE, CORNER])))
    # the square is 1 on 12 of its 16 pixels; the corner is 2 on two of four, which is no majority
    np.testing.assert_array_equal(after == 1, SQUARE)
    assert after[5, 4] == 2


def test_background_votes_too() -> None:
    assert not voted(INDEX, Proposals.of_masks(EVERYTHING[None])).any()


def test_the_larger_region_has_the_pixel() -> None:
    both = np.stack([SQUARE, np.zeros((8, 8), bool)])
    both[1, 3, 4] = True  # a pixel of label 2 that is a region of its own
    assert voted(INDEX, Proposals.of_masks(both))[3, 4] == 1
    assert voted(INDEX, Proposals.of_masks(both[1:]))[3, 4] == 2


def test_a_region_without_a_majority_has_no_say() -> None:
    np.testing.assert_array_equal(voted(INDEX, Proposals.of_masks(SQUARE[None]), 0.75), INDEX)
    assert voted(INDEX, Proposals.of_masks(SQUARE[None]), 0.74)[4, 3] == 1


def test_a_label_map_becomes_regions() -> None:
    found = Proposals.of_label_map(INDEX)
    np.testing.assert_array_equal([found.mask(row) for row in range(3)], np.arange(3)[:, None, None] == INDEX)
    assert len(Proposals.of_label_map(np.arange(300).reshape(20, 15))) == 300


def test_sams_two_kinds_of_run_lengths_are_read() -> None:
    counts = {"size": [8, 8], "counts": [9, 4, 4, 4, 43]}  # down the columns: the left half
    plain = Proposals.of((8, 8), [counts, {"size": [8, 8], "counts": [64]}], [0.5, 0.9])
    assert len(plain) == 1, "empty regions are left out"
    assert plain.quality.tolist() == [0.5]
    np.testing.assert_array_equal(plain.mask(0), LEFT_HALF)
    packed = coco.encode(np.asfortranarray(LEFT_HALF.astype(np.uint8)))
    text = {"size": [8, 8], "counts": packed["counts"].decode()}
    np.testing.assert_array_equal(Proposals.of((8, 8), [text]).mask(0), LEFT_HALF)


def test_regions_of_two_sources_together() -> None:
    both = Proposals.of_masks(LEFT_HALF[None], [0.5]).together(Proposals.of_masks(CORNER[None]))
    assert both.quality.tolist() == [0.5, 1]
    np.testing.assert_array_equal(both.union([0, 1]), LEFT_HALF | CORNER)
    assert not both.union([]).any()


def stacks(most: int) -> st.SearchStrategy[np.ndarray]:
    return st.integers(1, most).flatmap(lambda count: arrays(np.bool_, (count, 7, 5)))


@given(stacks(4), stacks(6))
def test_counts_are_those_of_the_naive_loops(masks: np.ndarray, regions: np.ndarray) -> None:
    regions = regions[regions.any(axis=(1, 2))]
    found = overlaps(masks, Proposals.of_masks(regions))
    assert found.common.tolist() == [[int((m & r).sum()) for r in regions] for m in masks]
    for k, one in enumerate(masks):
        for p, other in enumerate(regions):
            small = min(one.sum(), other.sum())
            assert found.iom[k, p] == ((one & other).sum() / small if small else 0)
            assert found.iou[k, p] == iou(one, other)
            assert 0 <= found.iou[k, p] <= found.iom[k, p] <= 1


@given(stacks(4), stacks(4))
def test_iom_and_iou_are_symmetric(ones: np.ndarray, others: np.ndarray) -> None:
    ones, others = ones[ones.any(axis=(1, 2))], others[others.any(axis=(1, 2))]
    one_way, other_way = overlaps(ones, Proposals.of_masks(others)), overlaps(others, Proposals.of_masks(ones))
    np.testing.assert_array_equal(one_way.iom, other_way.iom.T)
    np.testing.assert_array_equal(one_way.iou, other_way.iou.T)


@given(stacks(3), stacks(6), st.randoms(use_true_random=False))
def test_the_order_of_regions_does_not_matter(masks: np.ndarray, regions: np.ndarray, chance: st.DrawFn) -> None:
    order = list(range(len(regions)))
    chance.shuffle(order)
    one = matched(masks, Proposals.of_masks(regions), 0.5, 0.3)
    np.testing.assert_array_equal(one, matched(masks, Proposals.of_masks(regions[order]), 0.5, 0.3))


@given(arrays(np.uint16, (7, 5), elements=st.integers(0, 3)), arrays(np.uint8, (7, 5), elements=st.integers(0, 4)))
def test_votes_are_those_of_the_naive_loops(index: np.ndarray, labels: np.ndarray) -> None:
    expected = index.copy()
    for number in np.unique(labels):
        inside = labels == number
        counts = np.bincount(index[inside])
        if counts.max() > 0.5 * inside.sum():
            expected[inside] = counts.argmax()
    np.testing.assert_array_equal(voted(index, Proposals.of_label_map(labels)), expected)


@given(arrays(np.uint16, (7, 5), elements=st.integers(0, 3)))
def test_a_vote_among_its_own_regions_changes_nothing(index: np.ndarray) -> None:
    np.testing.assert_array_equal(voted(index, Proposals.of_label_map(index)), index)
