"""A data set in a folder: `images/`, `masks/STEM.png`, `classes.txt`, and maybe `queries/STEM.txt`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from model.benchmarks.metrics import confusion, quality
from model.pictures import index_map, read_image
from model.segmenter import Segmenter
from model.vocabulary import vocabulary

SUFFIXES = (".png", ".jpg", ".jpeg")


class DatasetError(ValueError):
    """The folder is not such a data set; the message says what is missing."""


@dataclass(frozen=True)
class Sample:
    """One image, its ground truth and the labels that are asked for. Files are read when needed."""

    image: Path
    mask: Path
    queries: tuple[str, ...]

    def truth(self) -> tuple[NDArray[np.integer], int]:
        """Return the index map [H, W] (0 = background, i = i-th class) and the value that means ignore."""
        with Pillow.open(self.mask) as picture:
            index = np.array(picture)
        if index.ndim != 2:
            raise DatasetError(f"{self.mask} is no index mask: it has {index.shape[2]} channels.")
        return index, 255 if index.dtype.itemsize == 1 else 65535


def classes(root: Path) -> tuple[str, ...]:
    """Read `classes.txt`, one label per line."""
    return _lines(root / "classes.txt")


def samples(root: Path) -> Iterator[Sample]:
    """Walk the images by name."""
    names = classes(root)
    images = sorted(path for path in (root / "images").glob("*") if path.suffix.lower() in SUFFIXES)
    if not images:
        raise DatasetError(f"{root / 'images'} holds no image ({', '.join(SUFFIXES)}).")
    for image in images:
        mask = root / "masks" / f"{image.stem}.png"
        if not mask.is_file():
            raise DatasetError(f"{image} has no ground truth: {mask} is missing.")
        asked = root / "queries" / f"{image.stem}.txt"
        queries = _lines(asked) if asked.is_file() else names
        unknown = sorted(set(queries) - set(names))
        if unknown:
            raise DatasetError(f"{asked} asks for {unknown[0]!r}, which classes.txt does not list.")
        yield Sample(image, mask, queries)


def evaluate(segmenter: Segmenter, root: Path, limit: int | None = None, protocol: str = "default") -> dict[str, Any]:
    """Segment a folder's images and compare: the figures that `python -m model evaluate` writes as JSON.

    precision and recall are those of the labels found per image; the rest is counted in pixels.
    """
    names = classes(root)
    place = {name: i + 1 for i, name in enumerate(names)}
    matrix = np.zeros((len(names) + 1,) * 2, np.int64)
    right = found = present = images = 0
    started = perf_counter()
    for sample in list(samples(root))[:limit]:
        result = segmenter.segment(read_image(sample.image), vocabulary(sample.queries))
        truth, ignore = sample.truth()
        prediction = index_map(result, names)
        if truth.shape != prediction.shape:
            raise DatasetError(f"{sample.mask} is {truth.shape}, its image {prediction.shape} (height, width).")
        matrix += confusion(truth, prediction, len(matrix), ignore)
        there = {name for name in sample.queries if (truth == place[name]).any()}
        right, found, present = (
            right + len(there & set(result.labels)),
            found + len(result.labels),
            present + len(there),
        )
        images += 1
    figures = quality(matrix, protocol)
    titles = ("background", *names)
    return {
        "miou": figures.miou,
        "miou_with_background": figures.miou_with_background,
        "precision": right / max(1, found),
        "recall": right / max(1, present),
        "per_class": {titles[c]: iou for c, iou in figures.per_class.items()},
        "images": images,
        "seconds": perf_counter() - started,
    }


def _lines(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        raise DatasetError(f"{path} is missing.")
    return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
