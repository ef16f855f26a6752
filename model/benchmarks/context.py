"""Pascal Context: VOC 2010's images with 59 classes, as PNGs or as the authors' MAT files of 459 classes."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.benchmarks.class_lists import class_list
from model.benchmarks.dataset import IGNORE, Dataset, DatasetError, Example, IndexFile, Truth, existing, inside, lines

FOLDERS = ("VOCdevkit/VOC2010", "VOC2010", ".")
OTHER_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "table",
    "pottedplant": "plant",
    "tvmonitor": "monitor",
}


@dataclass(frozen=True)
class MatFile:
    """A MAT file whose `LabelMap` [H, W] has numbers from 1 to 459; `table` holds the class of each, 0 for other."""

    path: Path
    background: bool
    table: tuple[int, ...]

    def read(self) -> NDArray[np.uint16]:
        """Return the index map [H, W] of the 59 classes. Raises DatasetError."""
        from scipy.io import loadmat

        try:
            numbers = np.asarray(loadmat(self.path)["LabelMap"], np.int64)
        except Exception as error:  # a broken file may raise anything
            raise DatasetError(f"{self.path} is no MAT file with a LabelMap: {error}") from error
        if numbers.size and numbers.max() >= len(self.table):
            raise DatasetError(f"{self.path} has the label {numbers.max()}, which labels.txt does not list.")
        index = np.array(self.table, np.uint16)[numbers]
        if not self.background:
            index[index == 0] = IGNORE
        return index

    @property
    def stamp(self) -> str:
        """Return the file's size."""
        return str(self.path.stat().st_size)


def read(root: Path, split: str = "val", background: bool = True) -> Dataset:
    """Read the lists of VOCdevkit/VOC2010; without background it is Context-59. Raises DatasetError.

    Ground truth is SegmentationClassContext/NAME.png (0 = other), or else trainval/NAME.mat beside labels.txt.
    """
    home = inside(root, *FOLDERS)
    queries = class_list("context")
    examples = []
    for name in lines(home / "ImageSets" / "SegmentationContext" / f"{split}.txt"):
        image = home / "JPEGImages" / f"{name}.jpg"
        examples.append(Example(name, image, queries, _truth(home, name, image, len(queries), background)))
    title = "context" if background else "context59"
    return Dataset(title, split, "labels", tuple(examples), tuple(query.label for query in queries), background)


def _truth(home: Path, name: str, image: Path, classes: int, background: bool) -> Truth:
    mat = home / "trainval" / f"{name}.mat"
    if mat.is_file():
        return MatFile(mat, background, _table(home / "labels.txt"))
    return IndexFile(existing(home / "SegmentationClassContext" / f"{name}.png", image), classes, background)


@cache
def _table(path: Path) -> tuple[int, ...]:
    """Return the class 0..59 of each of the labels that `labels.txt` numbers ("1: accordion")."""
    place = {query.label: number for number, query in enumerate(class_list("context"), start=1)}
    numbered = {}
    for line in lines(path):
        number, colon, label = line.partition(":")
        if not colon or not number.strip().isdigit():
            raise DatasetError(f"{path}: {line!r} should be a number, a colon and a label.")
        numbered[int(number)] = place.get(OTHER_NAMES.get(label.strip(), label.strip()), 0)
    return tuple(numbered.get(number, 0) for number in range(max(numbered) + 1))
