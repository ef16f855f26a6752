"""Many images, one after the other: masks of the last ones are drawn while CLIP looks at the next.

Drawing (a dense CRF, on the CPU) takes as long as everything else where a GPU computes, and it does not release
Python's lock: so it happens in a few processes of its own, which load neither torch nor weights.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Generic, TypeVar

import cv2

from model.canvas import Drawing, Drawn

T = TypeVar("T")
S = TypeVar("S")
MOST_DRAWERS = 8


@dataclass(frozen=True)
class Found(Generic[T]):
    """One image that CLIP is done with: what is still to be drawn, and what makes a result of the drawings."""

    drawings: tuple[Drawing, ...]
    finish: Callable[[Sequence[Drawn]], T]

    def result(self) -> T:
        """Draw here and now."""
        return self.finish([drawing.draw() for drawing in self.drawings])


def stream(images: Iterable[S], look: Callable[[S], Found[T]], drawers: int) -> Iterator[T | Exception]:
    """Yield the result of each image in order, or the error that it met; what comes after it is not affected.

    look: what CLIP does for one image; it runs here, one image at a time. drawers: processes that draw meanwhile; with
    0 the drawing is done here, too. At most twice as many images wait for their drawings, so that memory stays bounded.
    An error of `images` itself is raised once the results of all images before it are out.
    """
    waiting: deque[_Pending[T]] = deque()
    with ExitStack() as stack:
        pool = stack.enter_context(_pool(drawers)) if drawers else None
        source = iter(images)
        ended: Exception | None = None
        while ended is None:
            try:
                image = next(source)
            except Exception as error:
                ended = error
            else:
                waiting.append(_Pending(look, image, pool))
            while waiting and (ended or len(waiting) > 2 * drawers):
                yield waiting.popleft().result()
        if not isinstance(ended, StopIteration):
            raise ended


def drawers_beside(device: str, threads: int) -> int:
    """Return how many processes may draw beside a GPU, or beside so many threads of a CPU: the cores left over."""
    cores = len(os.sched_getaffinity(0))
    return max(0, min(MOST_DRAWERS, cores - (1 if device == "cuda" else threads)))


class _Pending(Generic[T]):
    """One image on its way: looked at already, its drawings perhaps not done."""

    def __init__(self, look: Callable[[S], Found[T]], image: S, pool: ProcessPoolExecutor | None) -> None:
        self._error: Exception | None = None
        self._drawn: list[Future[Drawn] | None] = []
        try:
            self._found = look(image)
            self._drawn = [_submit(pool, drawing) for drawing in self._found.drawings]
        except Exception as error:
            self._error = error

    def result(self) -> T | Exception:
        if self._error:
            return self._error
        try:
            return self._found.finish(
                [_drawn(future, one) for future, one in zip(self._drawn, self._found.drawings, strict=True)]
            )
        except Exception as error:
            return error


def _submit(pool: ProcessPoolExecutor | None, drawing: Drawing) -> "Future[Drawn] | None":
    if pool is None or not drawing.portable:
        return None
    try:
        return pool.submit(drawing.draw)
    except BrokenProcessPool:
        return None


def _drawn(future: "Future[Drawn] | None", drawing: Drawing) -> Drawn:
    """Wait for a drawing; one whose process was killed, or that has none, is made here."""
    if future is None:
        return drawing.draw()
    try:
        return future.result()
    except BrokenProcessPool:
        return drawing.draw()


def _pool(drawers: int) -> ProcessPoolExecutor:
    # spawned, not forked: a fork would inherit torch's threads and the GPU's context
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(drawers, mp_context=spawn, initializer=cv2.setNumThreads, initargs=(1,))
