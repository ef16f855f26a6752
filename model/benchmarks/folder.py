"""A data set in a folder: `images/`, `masks/STEM.png`, `classes.txt`, and maybe `queries/STEM.txt`."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from model.benchmarks.calibration import Finding, calibration_error, reliability
from model.benchmarks.metrics import confusion, quality
from model.pictures import index_map, read_image
from model.segmenter import Segmentation, Segmenter
from model.vocabulary import Query, vocabulary

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


def evaluate(
    segmenter: Segmenter,
    root: Path,
    limit: int | None = None,
    protocol: str = "default",
    queries: Iterable[Query] = (),
) -> dict[str, Any]:
    """Segment a folder's images and compare: the figures that `python -m model evaluate` writes as JSON.

    queries: what to look for where a label stands for other texts, or for stuff; other labels stand for themselves.
    precision and recall are those of the labels found per image, whose scores `reliability` compares with how many are
    right; the rest is counted in pixels.
    """
    names = classes(root)
    known = {query.label: query for query in (*vocabulary(names), *queries)}
    place = {name: i + 1 for i, name in enumerate(names)}
    matrix = np.zeros((len(names) + 1,) * 2, np.int64)
    present = images = 0
    findings: list[Finding] = []
    started = perf_counter()
    for sample in list(samples(root))[:limit]:
        result = segmenter.segment(read_image(sample.image), [known[label] for label in sample.queries])
        truth, ignore = sample.truth()
        prediction = index_map(result, names)
        if truth.shape != prediction.shape:
            raise DatasetError(f"{sample.mask} is {truth.shape}, its image {prediction.shape} (height, width).")
        matrix += confusion(truth, prediction, len(matrix), ignore)
        present += sum(bool((truth == place[name]).any()) for name in sample.queries)
        findings += _findings(result, truth, ignore, place)
        images += 1
    figures = quality(matrix, protocol)
    right = sum(finding.present for finding in findings)
    table = reliability(findings)
    titles = ("background", *names)
    return {
        "miou": figures.miou,
        "miou_with_background": figures.miou_with_background,
        "precision": right / max(1, len(findings)),
        "recall": right / max(1, present),
        "calibration_error": calibration_error(table),
        "reliability": [asdict(row) for row in table],
        "per_class": {titles[c]: iou for c, iou in figures.per_class.items()},
        "images": images,
        "seconds": perf_counter() - started,
    }


def _findings(
    result: Segmentation, truth: NDArray[np.integer], ignore: int, place: Mapping[str, int]
) -> Iterator[Finding]:
    """Compare each label found with the ground truth, where that is known."""
    known = truth != ignore
    for label, score, mask in zip(result.labels, result.scores.tolist(), result.masks, strict=True):
        there = truth == place[label]
        union = (mask & known) | there
        yield Finding(score, bool(there.any()), float((mask & there).sum() / max(1, union.sum())))


def _lines(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        raise DatasetError(f"{path} is missing.")
    return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
