"""Streams keep order, errors stay with their image, and another process draws the same masks."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.canvas import Drawing, Drawn
from model.pictures import read_image
from model.presets import Preset, preset
from model.regions import Refiner
from model.segmenter import Segmenter
from model.stream import Found, drawers_beside, stream
from model.vocabulary import vocabulary

DEMO = preset("demo", {"refine": "none"})


def drawing_of(image: np.ndarray, maps: np.ndarray, settings: Preset) -> Drawing:
    return Drawing(image, maps, settings, np.ones(len(maps), np.float32), Refiner())


def look(number: int) -> Found[int]:
    """An image that is a number: odd ones cannot be looked at, those divisible by four have nothing drawn."""
    if number % 2:
        raise ValueError(f"{number} is odd")
    drawing = drawing_of(np.zeros((2, 2, 3), np.uint8), np.ones((0, 1, 1), np.float32), DEMO)

    def finish(drawn: Sequence[Drawn]) -> int:
        assert all(one.index.shape == (2, 2) for one in drawn)
        return number * 10 + len(drawn)

    return Found((drawing,) * (number % 4), finish)


@given(st.lists(st.integers(0, 9), max_size=12))
def test_each_image_has_its_result_or_its_error(numbers: list[int]) -> None:
    answers = [str(answer) for answer in stream(numbers, look, drawers=0)]
    assert answers == [f"{n} is odd" if n % 2 else str(10 * n + n % 4) for n in numbers]


def test_a_broken_source_loses_no_image_before_it() -> None:
    def source() -> Iterator[int]:
        yield from (0, 2)
        raise OSError("the film ends here")

    answers: list[int | Exception] = []
    with pytest.raises(OSError, match="the film ends here"):
        answers.extend(stream(source(), look, drawers=2))
    assert answers == [0, 22]


def test_images_are_asked_for_when_they_are_needed() -> None:
    asked: list[int] = []

    def source() -> Iterator[int]:
        for number in range(0, 40, 4):
            asked.append(number)
            yield number

    results = stream(source(), look, drawers=1)
    assert next(results) == 0
    assert asked == [0, 4, 8], "one to draw, and two that wait"
    results.close()


def square(side: int) -> Drawing:
    image = np.full((48, 48, 3), 30, np.uint8)
    image[:side, :side] = 220
    soft = np.zeros((1, 6, 6), np.float32)
    soft[0, : side // 8, : side // 8] = 1
    return drawing_of(image, soft, preset("demo"))


def test_other_processes_draw_the_same_masks() -> None:
    def seen(side: int) -> Found[np.ndarray]:
        return Found((square(side),), lambda drawn: drawn[0].index)

    here = list(stream((16, 24, 32), seen, drawers=0))
    there = list(stream((16, 24, 32), seen, drawers=2))
    np.testing.assert_array_equal(here, there)
    assert [int(index[0, 0]) for index in there if isinstance(index, np.ndarray)] == [1, 1, 1]


def test_what_a_killed_process_would_have_drawn_is_drawn_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def doomed(drawers: int) -> ProcessPoolExecutor:
        spawn = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(drawers, mp_context=spawn, initializer=os._exit, initargs=(1,))

    monkeypatch.setattr("model.stream._pool", doomed)
    answers = stream((16, 24, 32), lambda side: Found((square(side),), lambda drawn: int(drawn[0].index.sum())), 1)
    assert list(answers) == [16 * 16, 24 * 24, 32 * 32]


@pytest.mark.parametrize(
    ("device", "threads", "cores", "expected"),
    [("cpu", 2, 2, 0), ("cpu", 1, 2, 1), ("cpu", 4, 2, 0), ("cuda", 16, 16, 8), ("cuda", 2, 4, 3), ("cuda", 1, 1, 0)],
)
def test_cores_left_over(device: str, threads: int, cores: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert drawers_beside(device, threads) == expected


def test_scenes_of_a_segmenter(segmenter_of: Callable[..., Segmenter], studio: Path) -> None:
    """Two scenes and something that is no image between them: the masks are those of `segment`."""
    queries = vocabulary(["mount fuji", "firefox logo", "cat", "pizza"])
    first, second = (read_image(studio / "images" / f"{name}.png") for name in ("001", "002"))
    segmenter = segmenter_of()
    one, error, two = segmenter.stream([first, first[..., 0], second], queries, drawers=1)
    assert isinstance(error, ValueError)
    for result, image in ((one, first), (two, second)):
        alone = segmenter.segment(image, queries)
        assert not isinstance(result, Exception)
        assert result.labels == alone.labels != ()
        np.testing.assert_array_equal(result.masks, alone.masks)
        assert result.seconds["masks"] > 0
