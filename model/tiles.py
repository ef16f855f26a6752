"""Small objects in large images: looking at overlapping tiles too, and merging what was found.

CLIP sees at most `max_patches` of an image, so that a logo a hundredth as wide as a photograph is less than a patch. A
tile is seen at the same bound, hence closer. Each tile goes through the whole method by itself: n x n tiles cost n² + 1
times as much as the image alone, the masks (one dense CRF) apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.canvas import canvas_size
from model.car import Outcome
from model.presets import Preset
from model.sizes import enlarge

Place = tuple[slice, slice]
OVERLAP = 0.25  # of a tile's side: what a seam cuts is whole in the tile next to it
TINY = np.float32(1e-12)


@dataclass(frozen=True)
class Piece:
    """Rows and columns of an image, and what the recurrence found there."""

    place: Place
    outcome: Outcome


def places(height: int, width: int, tiles: int) -> list[Place]:
    """Return the rows and columns of an image: all of them, and those of `tiles` x `tiles` overlapping tiles."""
    whole = [(slice(0, height), slice(0, width))]
    if tiles < 2:
        return whole
    return whole + [(rows, columns) for rows in _spans(height, tiles) for columns in _spans(width, tiles)]


def merged(pieces: Sequence[Piece], shape: Sequence[int], preset: Preset) -> Outcome:
    """Merge what the recurrence found in an image of shape [H, W, 3], the first piece, and in its tiles.

    A label is found if one piece found it; its score is the best one, and its map, at the size at which masks are
    drawn, the largest of all at each pixel. A piece less sure than the best one counts less, as `score_power` has it.
    """
    if len(pieces) == 1:
        return pieces[0].outcome
    scores = np.max([piece.outcome.scores for piece in pieces], axis=0)
    found = sorted({row for piece in pieces for row in piece.outcome.survivors})
    maps = np.zeros((len(found), *canvas_size(shape[0], shape[1], preset)), np.float32)
    down, across = maps.shape[1] / shape[0], maps.shape[2] / shape[1]
    seconds: dict[str, float] = {}
    for piece in pieces:
        place = _scaled(piece.place[0], down), _scaled(piece.place[1], across)
        for row, soft in zip(piece.outcome.survivors, piece.outcome.maps, strict=True):
            target = maps[found.index(row)][place]
            surety = (piece.outcome.scores[row] / max(scores[row], TINY)) ** np.float32(preset.score_power)
            np.maximum(target, surety * enlarge(soft[None], *target.shape)[0], out=target)
        for stage, spent in piece.outcome.seconds.items():
            seconds[stage] = seconds.get(stage, 0) + spent
    passes = tuple(one for piece in pieces for one in piece.outcome.passes)
    known = [one.outcome.scores if one.outcome.unaided is None else one.outcome.unaided for one in pieces]
    return Outcome(tuple(found), maps, scores, passes, seconds, np.max(known, axis=0))


def _scaled(span: slice, share: float) -> slice:
    """Return rows or columns of the image on the canvas: one at least."""
    start = int(span.start * share)
    return slice(start, max(start + 1, round(span.stop * share)))


def _spans(length: int, tiles: int) -> list[slice]:
    """Return where tiles begin and end along a side: equally long, the first and the last at its ends."""
    long = min(length, -int(-length // (tiles - (tiles - 1) * OVERLAP)))
    return [slice(start, start + long) for start in (round(i * (length - long) / (tiles - 1)) for i in range(tiles))]
