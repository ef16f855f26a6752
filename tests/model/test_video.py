from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from model.pictures import PictureError
from model.segmentation import Segmentation
from model.video import VideoError, frames, smooth


def video(path: Path, count: int) -> Path:
    """Write a film whose frames are red, a little brighter each time."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(count):
        writer.write(np.full((48, 64, 3), (0, 0, 100 + 20 * number), np.uint8))
    writer.release()
    return path


def test_frames_of_a_file(tmp_path: Path) -> None:
    read = list(frames(video(tmp_path / "film.avi", 5), every=2))
    assert [frame.name for frame in read] == ["000000", "000002", "000004"]
    assert read[0].image.shape == (48, 64, 3)
    reds = [int(frame.image[..., 0].mean()) for frame in read]
    assert np.abs(np.array(reds) - [100, 140, 180]).max() < 5
    assert read[0].image[..., 2].max() < 10, "red is the first channel"


def test_frames_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "c.png", "notes.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no frame")
        else:
            Pillow.new("RGB", (6, 4)).save(tmp_path / name)
    assert [frame.name for frame in frames(tmp_path)] == ["a", "b", "c"]
    assert [frame.name for frame in frames(tmp_path, every=2)] == ["a", "c"]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda path: path, VideoError, "neither a folder of frames nor a video"),
        (lambda path: path.write_text("no film") and path, VideoError, "cannot be read as a video"),
        (lambda path: path.mkdir() or path, VideoError, "holds no frames"),
        (
            lambda path: path.mkdir() or ((path / "a.png").write_text("x") and path),
            PictureError,
            "a.png cannot be read",
        ),
    ],
)
def test_what_is_no_video(tmp_path: Path, make: Callable[[Path], Path], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        list(frames(make(tmp_path / "x")))


def result(pixels: str, score: float = 0.5) -> Segmentation:
    """A frame of one row; each letter is a pixel's label, a dot none."""
    row = np.array(list(pixels))
    labels = tuple(label for label in "ab" if label in pixels)
    masks = np.array([[row == label] for label in labels], bool).reshape(-1, 1, len(row))
    return Segmentation(labels, masks, np.full(len(labels), score, np.float32), {"a": 0.1, "b": 0.2}, (), {})


def pixels(segmentation: Segmentation) -> str:
    row = np.full(segmentation.masks.shape[2], ".")
    for label, mask in zip(segmentation.labels, segmentation.masks, strict=True):
        row[mask[0]] = label
    return "".join(row)


@pytest.mark.parametrize(
    ("film", "reach", "expected"),
    [
        (["a..", "...", "a.."], 0, ["a..", "...", "a.."]),
        (["a..", "...", "a.."], 1, ["...", "a..", "..."]),
        (["ab.", "ab.", "ba.", "ab.", "ab."], 1, ["ab."] * 5),
        (["a..", ".b.", "..a", "..."], 1, ["...", "...", "...", "..."]),
        (["aab"], 3, ["aab"]),
        (["aa.", "ab."], 5, ["a..", "a.."]),
        ([], 2, []),
    ],
)
def test_neighbours_vote(film: list[str], reach: int, expected: list[str]) -> None:
    assert [pixels(frame) for frame in smooth(map(result, film), reach)] == expected


def test_scores_are_means_over_the_frames_that_found_the_label() -> None:
    film = [result("a", 0.2), result("a", 0.4), result(".", 0.9)]
    middle = list(smooth(film, 1))[1]
    assert middle.labels == ("a",)
    assert middle.scores == pytest.approx([0.3])


def test_frames_of_another_size_do_not_vote() -> None:
    assert [pixels(frame) for frame in smooth([result("ab"), result("abab"), result("ba")], 1)] == ["ab", "abab", "ba"]


@given(st.lists(st.text("ab.", min_size=4, max_size=4), max_size=8), st.integers(0, 4))
def test_smoothing_keeps_count_and_disjointness(film: list[str], reach: int) -> None:
    smoothed = list(smooth(map(result, film), reach))
    assert len(smoothed) == len(film)
    assert all(frame.masks.sum(axis=0).max(initial=0) <= 1 for frame in smoothed)
    assert all(frame.masks.any(axis=(1, 2)).all() for frame in smoothed)
