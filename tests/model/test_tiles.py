from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.canvas import draw
from model.car import Outcome
from model.presets import PresetError, preset
from model.tiles import Piece, merged, places

PRESET = replace(preset("demo"), crf_max_side=0, score_power=0.0)


def test_places_by_hand() -> None:
    """Sides of 70: tiles of 40, which overlap by 10, a quarter of their side."""
    low, high = slice(0, 40), slice(30, 70)
    assert places(70, 70, 1) == [(slice(0, 70), slice(0, 70))]
    assert places(70, 70, 2)[1:] == [(low, low), (low, high), (high, low), (high, high)]


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(2, 4))
def test_tiles_cover_the_image(height: int, width: int, tiles: int) -> None:
    found = places(height, width, tiles)
    assert len(found) == tiles * tiles + 1
    for side, span in ((height, 0), (width, 1)):
        spans = [place[span] for place in found[1:]]
        assert all(0 <= s.start < s.stop <= side for s in spans)
        assert {len(range(side)[s]) for s in spans} == {spans[0].stop - spans[0].start}
        assert set().union(*(range(s.start, s.stop) for s in spans)) == set(range(side))


def outcome(survivors: tuple[int, ...], scores: list[float], *maps: np.ndarray) -> Outcome:
    stacked = np.stack(maps) if maps else np.zeros((0, 1, 1), np.float32)
    return Outcome(survivors, stacked, np.array(scores, np.float32), ((survivors, (1.0,)),), {"proposals": 1.0})


def test_merging_by_hand() -> None:
    """The image holds label 0, weakly; a tile finds it surely, and label 2, which is too small for the image."""
    whole = slice(0, 4), slice(0, 4)
    corner = slice(2, 4), slice(2, 4)
    half, full = np.full((4, 4), 0.5, np.float32), np.ones((2, 2), np.float32)
    pieces = [
        Piece(whole, outcome((0,), [0.2, 0.1, 0.0], half)),
        Piece(corner, outcome((0, 2), [0.8, 0.0, 0.6], full, 0.75 * full)),
    ]
    both = merged(pieces, (4, 4, 3), PRESET)
    assert both.survivors == (0, 2)
    np.testing.assert_allclose(both.scores, [0.8, 0.1, 0.6])
    np.testing.assert_allclose(both.maps[0], np.where(np.add.outer(*(np.arange(4) // 2,) * 2) == 2, 1, 0.5))
    assert both.maps[1].sum() == pytest.approx(4 * 0.75)
    assert len(both.passes) == 2
    assert both.seconds == {"proposals": 2.0}
    weighted = merged(pieces, (4, 4, 3), replace(PRESET, score_power=1.0))
    assert weighted.maps[0][0, 0] == pytest.approx(0.5 * 0.2 / 0.8)


def test_masks_of_merged_maps_are_disjoint() -> None:
    whole = slice(0, 8), slice(0, 8)
    soft = np.ones((2, 2), np.float32)
    pieces = [Piece(whole, outcome((0,), [0.9, 0], soft)), Piece(whole, outcome((1,), [0, 0.9], 0.9 * soft))]
    both = merged(pieces, (8, 8, 3), PRESET)
    index = draw(np.zeros((8, 8, 3), np.uint8), both.maps, replace(PRESET, refine="none"))
    assert set(np.unique(index)) == {1}


def test_one_piece_is_itself() -> None:
    piece = Piece((slice(0, 4), slice(0, 4)), outcome((0,), [1.0], np.ones((2, 2), np.float32)))
    assert merged([piece], (4, 4, 3), PRESET) is piece.outcome


@pytest.mark.parametrize("tiles", ["0", "5"])
def test_cost_is_bounded(tiles: str) -> None:
    with pytest.raises(PresetError, match="tiles needs a number from 1 to 4"):
        preset("demo", {"tiles": tiles})
