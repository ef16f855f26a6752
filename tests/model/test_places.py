import numpy as np
import pytest

from model.places import Placed, part_at, placed


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("the red apple on the left", Placed("the red apple", "left")),
        ("the red apple, left", Placed("the red apple", "left")),
        ("The Red Apple on the far RIGHT side.", Placed("The Red Apple", "right")),
        ("the leftmost cup", Placed("the cup", "left")),
        ("upper window", Placed("window", "top")),
        ("the cup in the centre", Placed("the cup", "middle")),
        ("cup at the bottom", Placed("cup", "bottom")),
        ("the red apple", Placed("the red apple")),
        ("the man with the left hand up", Placed("the man with the left hand up")),
        ("the top", Placed("the top")),
        ("on the left", Placed("on", "left")),
        ("left", Placed("left")),
        ("leftovers", Placed("leftovers")),
    ],
)
def test_the_place_is_taken_out(sentence: str, expected: Placed) -> None:
    assert placed(sentence) == expected


def test_the_part_at_a_side_is_kept() -> None:
    mask = np.zeros((60, 80), bool)
    mask[5:15, 10:20] = True  # upper left
    mask[40:55, 60:75] = True  # lower right
    mask[25:35, 35:45] = True  # middle
    mask[59, 0] = True  # a speck, lower left
    rows = {side: np.flatnonzero(part_at(mask, side).any(axis=1))[0] for side in ("left", "right", "top", "middle")}
    assert rows == {"left": 5, "right": 40, "top": 5, "middle": 25}
    assert part_at(mask, "bottom")[50, 70]
    assert (part_at(mask, "") == mask).all()


def test_one_part_is_kept_wherever_it_is() -> None:
    mask = np.zeros((60, 80), bool)
    mask[5:15, 70:80] = True
    assert (part_at(mask, "left") == mask).all()
    assert not part_at(np.zeros((4, 4), bool), "left").any()
