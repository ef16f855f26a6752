"""The harness: segment a data set's images, one after another or by several processes, and add up what comes of it."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from tqdm import tqdm

from model.benchmarks.dataset import Dataset, DatasetError, Example
from model.benchmarks.figures import Tally
from model.benchmarks.records import Record, compare, index_of
from model.benchmarks.results import Results
from model.pictures import read_image
from model.referring import refer
from model.segmenter import Segmenter

Load = Callable[[], Segmenter]
Outcome = tuple[Record, NDArray[np.uint16]]


def evaluate(
    dataset: Dataset,
    load: Load,
    results: Results,
    limit: int | None = None,
    protocol: str = "default",
    workers: int = 1,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure the first `limit` examples, leaving out those that `results` already has; return the figures.

    load: makes the segmenter, once in each process and only if there is anything to do; with several workers it must be
    picklable. A progress bar with the mIoU so far goes to stderr unless `quiet`. Raises DatasetError and PictureError;
    what was measured until then is kept.
    """
    results.begin()
    wanted = dataset.examples[:limit]
    known = results.records()
    tally = Tally(results.setup.scheme(protocol))
    for example in wanted:
        if example.name in known:
            tally.add(known[example.name])
    todo = [example for example in wanted if example.name not in known]
    bar = tqdm(total=len(wanted), initial=len(wanted) - len(todo), desc=dataset.name, unit="image", disable=quiet)
    with bar:
        for record, index in _outcomes(dataset, todo, load, workers):
            results.add(record, index)
            tally.add(record)
            bar.set_postfix_str(tally.running(), refresh=False)
            bar.update()
    return tally.figures()


def measure(segmenter: Segmenter, dataset: Dataset, example: Example) -> Outcome:
    """Segment one example; return its record and an index map [H, W] of what was found."""
    if not example.image.is_file():
        raise DatasetError(f"{example.image} is missing.")
    image = read_image(example.image) if dataset.name == "folder" else _as_stored(example.image)
    if dataset.task == "labels":
        result = segmenter.segment(image, example.queries)
        return compare(dataset, example, result), index_of(result, dataset.classes)
    result = refer(segmenter, image, example.queries)
    return compare(dataset, example, result), index_of(result, [query.label for query in example.queries])


def _as_stored(path: Path) -> NDArray[np.uint8]:
    """Read an image of a benchmark: not turned as its EXIF says, since its ground truth is not either."""
    with Pillow.open(path) as picture:
        return np.array(picture.convert("RGB"))


def _outcomes(dataset: Dataset, todo: Sequence[Example], load: Load, workers: int) -> Iterator[Outcome]:
    if not todo:
        return
    if workers == 1:
        segmenter = load()
        yield from (measure(segmenter, dataset, example) for example in todo)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _start, (load, _bare(dataset), workers)) as pool:
        waiting = [pool.submit(_measure, example) for example in todo]
        try:
            yield from (done.result() for done in as_completed(waiting))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


# What a worker process holds: its segmenter, and the data set without its examples.
_held: list[tuple[Segmenter, Dataset]] = []


def _start(load: Load, dataset: Dataset, workers: int) -> None:
    """Begin a worker process: it ends with its parent, however that ends, and leaves the others their share."""
    import torch

    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    _held.append((load(), dataset))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _measure(example: Example) -> Outcome:
    segmenter, dataset = _held[0]
    return measure(segmenter, dataset, example)


def _bare(dataset: Dataset) -> Dataset:
    return Dataset(dataset.name, dataset.split, dataset.task, (), dataset.classes, dataset.background)
