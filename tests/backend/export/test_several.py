"""Exports of tasks with several images, and of labels that tasks bring along, read back by other libraries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import supervision as sv
from PIL import Image as Pillow
from pycocotools.coco import COCO

from backend.export.choice import Plan
from backend.export.exporter import Exporter, Summary
from backend.images.decoding import ImageError
from backend.labeling.parsing import parse_config
from backend.masks import brush
from tests.backend.export.test_exporter import studio_of
from tests.backend.export.test_resuming import stopping_after

Mask = npt.NDArray[np.bool_]

PAIR = parse_config(
    """<View><Image name="left" value="$a"/><Image name="right" value="$b"/>
    <BrushLabels name="mask" toName="left"><Label value="cat"/><Label value="dog"/></BrushLabels>
    <BrushLabels name="other" toName="right"><Label value="dog"/><Label value="moai" alias="head"/></BrushLabels>
    </View>""",
    "demo",
)
PAGES = parse_config(
    """<View><Image name="book" valueList="$pages"/>
    <BrushLabels name="mask" toName="book"><Label value="cat"/><Label value="dog"/></BrushLabels></View>""",
    "demo",
)
DYNAMIC = parse_config(
    """<View><Image name="left" value="$a"/>
    <BrushLabels name="mask" toName="left" value="$labels"><Label value="cat"/></BrushLabels></View>""",
    "demo",
)
SIZES = {"a": (30, 40), "b": (24, 50)}
"""The images' (height, width), by the first letter of their names."""


def disc(name: str, row: int, column: int, radius: float) -> Mask:
    height, width = SIZES[name]
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - row, columns - column)
    return (distance <= radius) & (distance >= radius / 3)


LEFT, RIGHT = disc("a", 12, 20, 9), disc("b", 12, 33, 8)


def fetch(url: str, task_id: int) -> npt.NDArray[np.uint8]:
    return np.full((*SIZES[url[1]], 3), task_id, np.uint8)


def on(tag: str, label: str, mask: Mask, page: int | None = None) -> dict[str, Any]:
    region = brush.region(mask, label, "mask", tag, None, "id")
    return region if page is None else {**region, "item_index": page}


def task(number: int, data: dict[str, Any], *regions: dict[str, Any]) -> dict[str, Any]:
    return {"id": number, "data": data, "annotations": [{"id": 1, "result": list(regions)}], "predictions": []}


TASKS = (
    task(5, {"a": "/a5.png", "b": "/b5.png"}, on("left", "dog", LEFT), on("right", "head", RIGHT)),
    task(6, {"a": "/a6.png", "b": "/b5.png"}, on("right", "dog", RIGHT)),
)
BOOK = (task(7, {"pages": ["/a1.png", "/b2.png"]}, on("book", "cat", LEFT, 0), on("book", "dog", RIGHT, 1)),)


def export(config: Any, folder: Path, format: str, tasks: Sequence[dict[str, Any]], **more: Any) -> Summary:
    plan = Plan(1, format, "annotations", tuple(config.names()), images=True, tolerance=0.0)
    studio: Any = studio_of(tasks)
    exporter = Exporter(plan, config, folder, more.get("fetch", fetch), studio)
    return exporter.run(exporter.tasks(), more.get("told", lambda: None))


def index(path: Path) -> npt.NDArray[np.int64]:
    return np.asarray(Pillow.open(path), np.int64)


def test_index_masks_of_two_images(tmp_path: Path) -> None:
    summary = export(PAIR, tmp_path, "png", TASKS)
    assert (summary.written, summary.tasks, summary.problems) == (4, 2, {})
    assert (tmp_path / "classes.txt").read_text().split() == ["cat", "dog", "head"]
    assert (index(tmp_path / "masks" / "a5.png") == 2 * LEFT).all()
    assert (index(tmp_path / "masks" / "b5.png") == 3 * RIGHT).all()
    assert not index(tmp_path / "masks" / "a6.png").any()
    assert (index(tmp_path / "masks" / "b5-6.png") == 2 * RIGHT).all(), "the name is taken"


def test_coco_of_two_images(tmp_path: Path) -> None:
    export(PAIR, tmp_path, "coco", TASKS)
    coco = COCO(str(tmp_path / "annotations.json"))
    shown = [(one["id"], one["file_name"], one["task"], one["tag"]) for one in coco.loadImgs(coco.getImgIds())]
    assert shown == [
        (1, "a5.png", 5, "left"),
        (2, "b5.png", 5, "right"),
        (3, "a6.png", 6, "left"),
        (4, "b5-6.png", 6, "right"),
    ]
    (found,) = coco.loadAnns(coco.getAnnIds(imgIds=2))
    assert (coco.annToMask(found) == RIGHT).all()
    assert coco.loadCats(found["category_id"])[0]["name"] == "head"
    dataset = sv.DetectionDataset.from_coco(str(tmp_path / "images"), str(tmp_path / "annotations.json"))
    masks = {Path(path).name: detections.mask for path, _, detections in dataset}
    assert (masks["a5.png"] == LEFT[None]).all()
    assert (masks["b5-6.png"] == RIGHT[None]).all()


def test_yolo_of_two_images_and_of_pages(tmp_path: Path) -> None:
    for config, tasks, names in ((PAIR, TASKS, ("a5.png", "b5.png")), (PAGES, BOOK, ("a1.png", "b2.png"))):
        folder = tmp_path / tasks[0]["data"].get("b", "pages").strip("/")
        export(config, folder, "yolo-seg", tasks)
        dataset = sv.DetectionDataset.from_yolo(
            str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml"), force_masks=True
        )
        masks = {Path(path).name: detections.mask for path, _, detections in dataset}
        for name, mask in zip(names, (LEFT, RIGHT), strict=True):
            assert (masks[name] & mask).sum() / (masks[name] | mask).sum() == 1


def test_pages_are_told_apart(tmp_path: Path) -> None:
    export(PAGES, tmp_path / "coco", "coco", BOOK)
    images = json.loads((tmp_path / "coco" / "annotations.json").read_text())["images"]
    assert [(one["id"], one["task"], one["tag"], one["page"]) for one in images] == [
        (1, 7, "book", 0),
        (2, 7, "book", 1),
    ]
    lost = task(8, {"pages": ["/a1.png"]}, on("book", "cat", LEFT, 0), on("book", "dog", RIGHT, 1))
    summary = export(PAGES, tmp_path / "lost", "png", [lost])
    assert summary.problems == {8: "regions are on book, image 2, which the task's data does not have"}
    assert summary.written == 1


def test_one_image_that_cannot_be_written_leaves_the_other(tmp_path: Path) -> None:
    def away(url: str, task_id: int) -> npt.NDArray[np.uint8]:
        if url == "/b5.png":
            raise ImageError("404 Not Found")
        return fetch(url, task_id)

    summary = export(PAIR, tmp_path, "png", TASKS, fetch=away)
    assert summary.problems == {5: "right: 404 Not Found", 6: "right: 404 Not Found"}
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["a5.png", "a6.png"]


def own(number: int, labels: object, *drawn: str) -> dict[str, Any]:
    return task(number, {"a": f"/a{number}.png", "labels": labels}, *(on("left", label, LEFT) for label in drawn))


BROUGHT = (
    own(1, ["moai", "cat"], "moai"),
    own(2, [{"value": "Tower", "alias": "tower"}, "moai"], "cat", "tower"),
    own(3, "gone", "old name"),
)


@pytest.mark.parametrize("format", ["png", "coco", "yolo-seg"])
def test_labels_of_tasks_are_numbered_as_they_are_met_also_when_interrupted(tmp_path: Path, format: str) -> None:
    straight, broken_off = tmp_path / "straight", tmp_path / "broken off"
    summary = export(DYNAMIC, straight, format, BROUGHT)
    assert (summary.written, summary.problems) == (3, {})

    with pytest.raises(KeyboardInterrupt):
        export(DYNAMIC, broken_off, format, BROUGHT, told=stopping_after(2))
    export(DYNAMIC, broken_off, format, BROUGHT)
    names = ["cat", "moai", "tower", "old name"]
    for folder in (straight, broken_off):
        if format == "png":
            assert (folder / "classes.txt").read_text().splitlines() == names
            assert set(np.unique(index(folder / "masks" / "a2.png"))) == {0, 3}
            assert set(np.unique(index(folder / "masks" / "a3.png"))) == {0, 4}
        elif format == "coco":
            coco = COCO(str(folder / "annotations.json"))
            assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == names
            found = coco.loadAnns(coco.getAnnIds(imgIds=2))
            assert [one["category_id"] for one in found] == [1, 3]
            assert (coco.annToMask(found[1]) == LEFT).all()
        else:
            dataset = sv.DetectionDataset.from_yolo(
                str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml"), force_masks=True
            )
            assert dataset.classes == names
            ids = {Path(path).name: detections.class_id.tolist() for path, _, detections in dataset}
            assert ids == {"a1.png": [1], "a2.png": [0, 2], "a3.png": [3]}


def test_a_label_that_no_task_may_bring_stays_a_problem(tmp_path: Path) -> None:
    static = replace(DYNAMIC, images=(replace(DYNAMIC.images[0], labels_field=""),))
    summary = export(static, tmp_path, "png", BROUGHT[:1])
    assert summary.problems == {1: "a region is called moai, which is no label of the labeling config"}
