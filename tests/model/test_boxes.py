import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.boxes import box_masks, parts


@pytest.mark.parametrize(
    ("cam", "share", "edge", "expected"),
    [
        ([[0, 0, 0], [0, 1, 0], [0, 0, 0]], 0.5, "keep", [[0, 0, 0], [0, 1, 0], [0, 0, 0]]),
        ([[1, 0, 0], [0, 1, 0], [0, 0, 0]], 0.5, "keep", [[1, 1, 0], [1, 1, 0], [0, 0, 0]]),
        ([[0, 0, 1], [0, 0, 1], [0, 0, 1]], 0.5, "cut", [[0, 0, 0], [0, 0, 0], [0, 0, 0]]),
        ([[0, 0, 1], [0, 0, 1], [0, 0, 1]], 0.5, "keep", [[0, 0, 1], [0, 0, 1], [0, 0, 1]]),
        ([[0, 1, 0], [0, 0, 0], [1, 0, 1]], 1.0, "keep", [[0, 1, 0], [0, 0, 0], [1, 0, 1]]),
        ([[0, 0, 0], [0, 0, 0], [0, 0, 0]], 0.5, "keep", [[0, 0, 0], [0, 0, 0], [0, 0, 0]]),
    ],
)
def test_box_masks(cam: list[list[int]], share: float, edge: str, expected: list[list[int]]) -> None:
    maps = torch.tensor([cam, [[0] * 3] * 3], dtype=torch.float32)
    assert box_masks(maps, share, edge).int().tolist() == [expected, [[0] * 3] * 3]


def test_parts_are_numbered_by_their_first_cell_and_touch_at_corners() -> None:
    above = torch.tensor([[[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 0, 1]]]).bool()
    assert parts(above).tolist() == [[[0, 12, 0], [12, 0, 12], [12, 12, 12], [9, 12, 11]]]


def test_a_part_that_winds() -> None:
    """A path through every cell of every other row: its ends are far apart, its number is one."""
    above = torch.ones(1, 41, 60, dtype=torch.bool)
    above[0, 1::4, :-1] = False
    above[0, 3::4, 1:] = False
    assert parts(above)[above].unique().tolist() == [0]


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))),
    st.sampled_from([0.0, 0.3, 0.5, 0.95, 1.0, 1.25]),
    st.sampled_from(["cut", "keep"]),
)
def test_boxes_are_those_of_opencv(levels: np.ndarray, share: float, edge: str) -> None:
    levels[:, 0, 0] = 255  # maps are stretched to 0..1
    maps = levels.astype(np.float32) / 255
    expected = np.zeros(maps.shape, bool)
    for picture, filled in zip((maps * 255).astype(np.uint8), expected, strict=True):
        own = share
        while not (above := picture > int(own * int(picture.max()))).any():
            own -= 0.1
        contours, _ = cv2.findContours(above.astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        height, width = picture.shape
        for x, y, w, h in map(cv2.boundingRect, contours):
            filled[y : min(y + h, height - (edge == "cut")), x : min(x + w, width - (edge == "cut"))] = True
    np.testing.assert_array_equal(box_masks(torch.from_numpy(maps), share, edge), expected)
