"""COCO Object: COCO's 80 things, and everything else as background, from pixel maps of COCO-Stuff or from instances."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from model.benchmarks.class_lists import class_list
from model.benchmarks.dataset import (
    Dataset,
    DatasetError,
    Example,
    IndexFile,
    Truth,
    existing,
    inside,
    mask_of,
    pictures,
)

# COCO numbers its categories from 1 to 90 and leaves ten numbers out.
LEFT_OUT = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
CATEGORIES = tuple(number for number in range(1, 91) if number not in LEFT_OUT)
PIXEL_MAPS = ("stuffthingmaps/{}", "annotations/{}", "{}")


@dataclass(frozen=True)
class Instances:
    """The instances of one image: (class, area, COCO's segmentation). Small ones are painted over large ones."""

    height: int
    width: int
    objects: tuple[tuple[int, float, str], ...]

    def read(self) -> NDArray[np.uint16]:
        """Return the index map [height, width]."""
        index = np.zeros((self.height, self.width), np.uint16)
        for number, _, segmentation in sorted(self.objects, key=lambda one: -one[1]):
            index[mask_of(json.loads(segmentation), self.height, self.width)] = number
        return index

    @property
    def stamp(self) -> str:
        """Return a checksum of the instances."""
        return f"{crc32(repr(self.objects).encode()):x}"


def read(root: Path, split: str = "val2017") -> Dataset:
    """Read pixel maps (stuffthingmaps/SPLIT/*.png), or else annotations/instances_SPLIT.json. Raises DatasetError."""
    home = inside(root, "coco", "coco_stuff164k", ".")
    queries = class_list("coco-object")
    images = pictures(inside(home, f"images/{split}", split), (".jpg",))
    truths = _pixel_maps(home, split, images) or _instances(home / "annotations" / f"instances_{split}.json", images)
    examples = (Example(image.stem, image, queries, truth) for image, truth in zip(images, truths, strict=True))
    return Dataset("coco-object", split, "labels", tuple(examples), tuple(query.label for query in queries))


def _pixel_maps(home: Path, split: str, images: list[Path]) -> list[Truth]:
    """Return the maps of COCO-Stuff, whose values are the category's number less one, or nothing."""
    classes = {number - 1: place for place, number in enumerate(CATEGORIES, start=1)}
    table = tuple(classes.get(value, 0) for value in range(256))
    for folder in (home / name.format(split) for name in PIXEL_MAPS):
        if (folder / f"{images[0].stem}.png").is_file():
            maps = (existing(folder / f"{image.stem}.png", image) for image in images)
            return [IndexFile(path, len(CATEGORIES), table=table) for path in maps]
    return []


def _instances(path: Path, images: list[Path]) -> list[Truth]:
    if not path.is_file():
        raise DatasetError(f"There are neither pixel maps nor {path}: docs/benchmarks.md says where they belong.")
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    place = {number: i for i, number in enumerate(CATEGORIES, start=1)}
    objects: dict[int, list[tuple[int, float, str]]] = defaultdict(list)
    for one in known["annotations"]:
        objects[one["image_id"]].append((place[one["category_id"]], one["area"], json.dumps(one["segmentation"])))
    listed = {image["file_name"]: image for image in known["images"]}
    missing = [image for image in images if image.name not in listed]
    if missing:
        raise DatasetError(f"{path} does not list {missing[0].name}.")
    rows = (listed[image.name] for image in images)
    return [Instances(row["height"], row["width"], tuple(objects[row["id"]])) for row in rows]
