"""Video: frames one by one, and masks that a moment's flicker does not change.

Each frame is an image of its own, as in the paper's Ref-DAVIS figures (CaR, Table 8; the released code has no part for
video). Smoothing over time is a vote of neighbouring frames; it is off unless asked for.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from model.pictures import read_image
from model.segmentation import Segmentation

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


class VideoError(ValueError):
    """A path that is neither a folder of frames nor a video that can be read; the message says which and why."""


@dataclass(frozen=True)
class Frame:
    """One frame, uint8 [H, W, 3] RGB, and the name its results get: a file's stem, or the number in the video."""

    name: str
    image: NDArray[np.uint8]


def frames(path: Path, every: int = 1) -> Iterator[Frame]:
    """Read each `every`-th frame of a folder of images, by name, or of a video file, as they are asked for.

    Raises VideoError, at the first frame where there is none, and PictureError for a broken image in a folder.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not files:
            raise VideoError(f"{path} holds no frames ({', '.join(SUFFIXES)}).")
        yield from (Frame(file.stem, read_image(file)) for file in files[::every])
    else:
        yield from _decoded(path, every)


def _decoded(path: Path, every: int) -> Iterator[Frame]:
    if not path.is_file():
        raise VideoError(f"{path} is neither a folder of frames nor a video file.")
    capture = cv2.VideoCapture(str(path))
    number = 0
    try:
        while capture.grab():
            if number % every == 0:
                read, picture = capture.retrieve()
                if not read:
                    break
                yield Frame(f"{number:06}", np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8))
            number += 1
    finally:
        capture.release()
    if not number:
        raise VideoError(f"{path} cannot be read as a video: OpenCV finds no frame in it.")


def smooth(results: Iterable[Segmentation], reach: int) -> Iterator[Segmentation]:
    """Let `reach` frames before and after each one vote on its pixels; 0 leaves everything as it is.

    A pixel has a label where more than half of these frames (at the ends there are fewer) say so, so that masks that
    were disjoint stay so. A label's score is its mean over the frames that found it. Results come `reach` frames late.
    """
    window: deque[Segmentation] = deque(maxlen=2 * reach + 1)
    for result in results:
        window.append(result)
        if len(window) > reach:
            yield _voted(window, len(window) - 1 - reach)
    for left in range(min(reach, len(window)), 0, -1):
        place = len(window) - left
        first = max(0, place - reach)
        yield _voted([*window][first:], place - first)


def _voted(window: Sequence[Segmentation], place: int) -> Segmentation:
    """Return the result at `place` with masks and scores as the window's frames of the same size vote."""
    own = window[place]
    if len(window) == 1:
        return own
    voters = [result for result in window if result.masks.shape[1:] == own.masks.shape[1:]]
    masks: list[NDArray[np.bool_]] = []
    labels: list[str] = []
    scores: list[np.floating] = []
    for label in own.raw_scores:
        finds = [(result, result.labels.index(label)) for result in voters if label in result.labels]
        if 2 * len(finds) <= len(voters):
            continue
        votes = np.stack([result.masks[row] for result, row in finds]).sum(axis=0, dtype=np.uint16)
        mask = np.asarray(2 * votes > len(voters))
        if mask.any():
            labels.append(label)
            masks.append(mask)
            scores.append(np.mean([result.scores[row] for result, row in finds]))
    shape = own.masks.shape[1:]
    stacked = np.stack(masks) if masks else np.zeros((0, *shape), bool)
    return replace(own, labels=tuple(labels), masks=stacked, scores=np.array(scores, np.float32))
