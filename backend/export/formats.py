"""The formats: index masks in PNG, COCO's JSON, and YOLO's segment files. Each image is written as it comes.

| format | files | a label is | an object is |
|---|---|---|---|
| `png` | `masks/STEM.png`, `classes.txt` | its number from 1 (0 = background) | not told apart |
| `coco` | `annotations.json` | a category, numbered from 1 | a region: COCO's compressed mask, exact |
| `yolo-seg` | `labels/STEM.txt`, `data.yaml` | its number from 0 | a part of a region: an outline, its holes cut in |

Labels are numbered in the order of the labeling config; those that tasks bring along follow, as they are met.

`png` with the images is what `python -m model evaluate folder` reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from backend.export.regions import Region
from backend.labeling.config import Picture
from backend.masks.outlines import outlines
from model.files import replacing, write_text
from model.palette import index_picture

Record = dict[str, Any]
"""What is remembered of an image, as JSON: `task`, `tag`, `stem`, `file`, `height`, `width`, `page` if it is one, and
what its format adds."""


@dataclass(frozen=True)
class Drawing:
    """One image to be written: `stem` names its files, `file` itself; regions are in the order they were drawn."""

    task: int
    stem: str
    file: str
    height: int
    width: int
    regions: Sequence[Region]
    picture: Picture

    def record(self) -> Record:
        """What is remembered of it whatever the format."""
        known = vars(self)
        place = {"tag": self.picture.tag} | ({} if self.picture.page is None else {"page": self.picture.page})
        return {name: known[name] for name in ("task", "stem", "file", "height", "width")} | place


class Format(Protocol):
    """Writes an export into one folder."""

    def write(self, drawing: Drawing) -> Record:
        """Write the files of one image; return its record."""

    def files(self, record: Mapping[str, Any]) -> list[Path]:
        """The files that `write` makes for such a record."""

    def finish(self, records: Iterable[Record]) -> None:
        """Write what tells of all images."""


class Png:
    """Index masks. Where regions overlap the later one is on top, as Label Studio paints them."""

    def __init__(self, folder: Path, labels: Sequence[str]) -> None:
        self._folder, self._labels = folder, labels
        (folder / "masks").mkdir(parents=True, exist_ok=True)

    def write(self, drawing: Drawing) -> Record:
        """Write the index mask."""
        index = np.zeros((drawing.height, drawing.width), np.uint16)
        for region in drawing.regions:
            index[region.mask] = self._labels.index(region.label) + 1
        record = drawing.record()
        with replacing(self.files(record)[0]) as path:
            index_picture(index, len(self._labels)).save(path, format="PNG")
        return record

    def files(self, record: Mapping[str, Any]) -> list[Path]:
        """The mask."""
        return [self._folder / "masks" / f"{record['stem']}.png"]

    def finish(self, records: Iterable[Record]) -> None:
        """Write the names of the labels, one a line."""
        write_text(self._folder / "classes.txt", "".join(f"{label}\n" for label in self._labels))


class Coco:
    """COCO's instances: the masks are exact, holes and all; a prediction's score is kept beside them."""

    def __init__(self, folder: Path, labels: Sequence[str], one_each: bool) -> None:
        self._folder, self._labels, self._one_each = folder, labels, one_each

    def write(self, drawing: Drawing) -> Record:
        """Keep the compressed masks for the end."""
        from pycocotools import mask as coco

        objects = []
        for region in drawing.regions:
            packed = coco.encode(np.asfortranarray(region.mask, np.uint8))
            one = {
                "category_id": self._labels.index(region.label) + 1,
                "segmentation": {"size": list(packed["size"]), "counts": packed["counts"].decode("ascii")},
                "area": int(region.mask.sum()),
                "bbox": [float(side) for side in coco.toBbox(packed)],
                "iscrowd": 0,
            }
            objects.append(one if region.score is None else {**one, "score": region.score})
        return {**drawing.record(), "objects": objects}

    def files(self, record: Mapping[str, Any]) -> list[Path]:
        """None: all images share one file."""
        return []

    def finish(self, records: Iterable[Record]) -> None:
        """Write `annotations.json`. An image has its task's id, or where tasks have several a number from 1."""
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for record in records:
            kept = ("width", "height") if self._one_each else ("width", "height", "task", "tag", "page")
            number = record["task"] if self._one_each else len(images) + 1
            known = {name: record[name] for name in kept if name in record}
            images.append({"id": number, "file_name": record["file"], **known})
            for one in record["objects"]:
                annotations.append({"id": len(annotations) + 1, "image_id": number, **one})
        categories = [{"id": number, "name": label} for number, label in enumerate(self._labels, 1)]
        whole = {"images": images, "annotations": annotations, "categories": categories}
        write_text(self._folder / "annotations.json", json.dumps(whole))


class YoloSeg:
    """YOLO's outlines, in shares of the image's sides; `tolerance` in pixels is how far they may be off."""

    def __init__(self, folder: Path, labels: Sequence[str], tolerance: float) -> None:
        self._folder, self._labels, self._tolerance = folder, labels, tolerance
        (folder / "labels").mkdir(parents=True, exist_ok=True)

    def write(self, drawing: Drawing) -> Record:
        """Write a line for each part of each region. Parts of fewer than three points are repeated up to three."""
        lines = []
        for region in drawing.regions:
            for outline in outlines(region.mask, self._tolerance):
                points = np.resize(outline, (max(3, len(outline)), 2)) / [drawing.width, drawing.height]
                numbers = " ".join(f"{value:.6g}" for value in points.ravel())
                lines.append(f"{self._labels.index(region.label)} {numbers}\n")
        record = drawing.record()
        write_text(self.files(record)[0], "".join(lines))
        return record

    def files(self, record: Mapping[str, Any]) -> list[Path]:
        """The outlines; empty for an image without any."""
        return [self._folder / "labels" / f"{record['stem']}.txt"]

    def finish(self, records: Iterable[Record]) -> None:
        """Write `data.yaml`. All images are for training: how to split them is not for us to say."""
        names = "".join(f"  {number}: {json.dumps(label)}\n" for number, label in enumerate(self._labels))
        write_text(self._folder / "data.yaml", f"path: .\ntrain: images\nval: images\nnames:\n{names}")


def writer(name: str, folder: Path, labels: Sequence[str], tolerance: float, one_each: bool) -> Format:
    """The format of that name: `png`, `coco` or `yolo-seg`. one_each: whether every task has one image.

    `labels` may grow between two images: new ones come last.
    """
    if name == "yolo-seg":
        return YoloSeg(folder, labels, tolerance)
    return Coco(folder, labels, one_each) if name == "coco" else Png(folder, labels)
