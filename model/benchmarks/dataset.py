"""What a data set is: images, what is sought in each, and the ground truth. Readers make one from files.

Ground truth is read when it is needed, from whatever the official layout holds, and always comes in one of two forms:
an index map of classes, or one mask for each object that sentences describe.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from model.vocabulary import Query

IGNORE = 65535
IMAGES = (".png", ".jpg", ".jpeg")
Task = Literal["labels", "objects", "video"]
Segments = tuple[tuple[float, ...], ...]


class DatasetError(ValueError):
    """The files are not such a data set; the message says what is missing or wrong."""


class Truth(Protocol):
    """Ground truth of one image."""

    def read(self) -> NDArray[np.generic]:
        """Return an index map, uint16 [H, W] (0 = background, i = i-th class, IGNORE), or masks, bool [N, H, W]."""
        ...

    @property
    def stamp(self) -> str:
        """Return what differs where the ground truth does (not where it merely lies elsewhere)."""
        ...


@dataclass(frozen=True)
class Example:
    """An image, the queries that it is searched for, and the ground truth.

    name: of the results' files, so that it differs from every other one in the data set.
    """

    name: str
    image: Path
    queries: tuple[Query, ...]
    truth: Truth


@dataclass(frozen=True)
class Dataset:
    """Examples, and how they are compared.

    task: `labels`: index maps and a confusion matrix; `objects`: masks of referring expressions; `video`: the same for
    frames, whose names are SEQUENCE.FRAME. classes: the labels of an index map, from 1 up. background: whether the
    background is a class that counts; where it is not, pixels without a class are ignored.
    """

    name: str
    split: str
    task: Task
    examples: tuple[Example, ...]
    classes: tuple[str, ...] = ()
    background: bool = True


@dataclass(frozen=True)
class IndexFile:
    """An index map in a picture of one channel, whose largest possible value (255 or 65535) means ignore.

    table: the class of each value, where the file has other numbers; then no value means ignore. shift: what to add.
    """

    path: Path
    classes: int
    background: bool = True
    shift: int = 0
    table: tuple[int, ...] = ()

    def read(self) -> NDArray[np.uint16]:
        """Return the index map [H, W]. Raises DatasetError."""
        index = read_index(self.path)
        unknown = index == np.iinfo(index.dtype).max
        if self.table:
            return _checked(np.array(self.table, np.uint16)[index], self)
        index = index.astype(np.uint16) + np.uint16(self.shift)
        index[unknown] = IGNORE
        return _checked(index, self)

    @property
    def stamp(self) -> str:
        """Return the file's size."""
        return str(self.path.stat().st_size)


@dataclass(frozen=True)
class IndexObjects:
    """Objects by their numbers in an index map, as videos have them."""

    path: Path
    numbers: tuple[int, ...]

    def read(self) -> NDArray[np.bool_]:
        """Return masks [N, H, W]. Raises DatasetError."""
        index = read_index(self.path)
        return np.stack([index == number for number in self.numbers])

    @property
    def stamp(self) -> str:
        """Return the file's size."""
        return str(self.path.stat().st_size)


@dataclass(frozen=True)
class Polygons:
    """Objects as COCO writes them: each is the union of polygons x1, y1, x2, y2, ... in pixels."""

    height: int
    width: int
    objects: tuple[Segments, ...]

    def read(self) -> NDArray[np.bool_]:
        """Return masks [N, height, width]."""
        return np.stack([mask_of([list(polygon) for polygon in one], self.height, self.width) for one in self.objects])

    @property
    def stamp(self) -> str:
        """Return a checksum of the polygons."""
        return f"{crc32(repr(self.objects).encode()):x}"


def read_index(path: Path) -> NDArray[np.integer]:
    """Read a picture of one channel as it is: palette indices, 8 or 16 bits. Raises DatasetError."""
    try:
        with Pillow.open(path) as picture:
            index = np.array(picture)
    except (OSError, UnidentifiedImageError) as error:
        raise DatasetError(f"{path} cannot be read as an index mask: {error}") from error
    if index.ndim != 2:
        raise DatasetError(f"{path} is no index mask: it has {index.shape[2]} channels.")
    if index.dtype.kind not in "ui" or index.dtype.itemsize > 2:
        raise DatasetError(f"{path} is no index mask: it has neither 8 nor 16 bits.")
    return index


def mask_of(segmentation: object, height: int, width: int) -> NDArray[np.bool_]:
    """Draw COCO's polygons or run lengths, compressed or not, as a mask [height, width]."""
    from pycocotools import mask

    if isinstance(segmentation, list):
        encoded = mask.merge(mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation, dict) and isinstance(segmentation.get("counts"), list):
        encoded = mask.frPyObjects(segmentation, height, width)
    else:
        encoded = segmentation
    return np.asarray(mask.decode(encoded), bool)


def inside(root: Path, *folders: str) -> Path:
    """Return the first of the folders that exists below `root`; "." is `root` itself. Raises DatasetError."""
    for folder in folders:
        if (root / folder).is_dir():
            return root / folder
    wanted = " or ".join(str(root / folder) for folder in folders)
    raise DatasetError(f"There is no folder {wanted}: docs/benchmarks.md says where the files belong.")


def lines(path: Path, encoding: str = "utf-8") -> tuple[str, ...]:
    """Read a text file's lines without blanks around them, leaving out empty ones. Raises DatasetError."""
    if not path.is_file():
        raise DatasetError(f"{path} is missing.")
    return tuple(line.strip() for line in path.read_text(encoding=encoding).splitlines() if line.strip())


def existing(path: Path, of: Path) -> Path:
    """Return the path of an image's ground truth, or raise DatasetError where there is none."""
    if not path.is_file():
        raise DatasetError(f"{of} has no ground truth: {path} is missing.")
    return path


def pictures(folder: Path, suffixes: Sequence[str] = IMAGES) -> list[Path]:
    """Return a folder's images by name. Raises DatasetError where there is none."""
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in suffixes)
    if not found:
        raise DatasetError(f"{folder} holds no image ({', '.join(suffixes)}).")
    return found


def _checked(index: NDArray[np.uint16], file: IndexFile) -> NDArray[np.uint16]:
    if not file.background:
        index[index == 0] = IGNORE
    known = index[index != IGNORE]
    if known.size and known.max() > file.classes:
        raise DatasetError(f"{file.path} has the value {known.max()}, but there are {file.classes} classes.")
    return index
