"""Exports: three formats read back by their usual readers, interrupted, repeated, and with what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import supervision as sv
from PIL import Image as Pillow
from pycocotools.coco import COCO

from backend.export.choice import Plan, chosen
from backend.export.exporter import Exporter, ExportError, Summary
from backend.export.names import file_name
from backend.images.decoding import ImageError
from backend.labeling.parsing import LabelingConfig
from backend.masks import brush
from tests.backend.conftest import MemoryStudio

SIZE = (40, 60)
PLAN = Plan(1, "png", "annotations", ("cat", "statue"), images=True)


def disc(row: int, column: int, radius: float, hole: float = 0) -> npt.NDArray[np.bool_]:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    distance = np.hypot(rows - row, columns - column)
    return (distance <= radius) & (distance >= hole)


RING = disc(18, 20, 12, hole=5)
DISC = disc(25, 45, 9)


def drawn(*masks: tuple[npt.NDArray[np.bool_], str], **more: Any) -> dict[str, Any]:
    result = [brush.region(mask, label, "mask", "image", None, str(i)) for i, (mask, label) in enumerate(masks)]
    return {"id": 1, "result": result, "was_cancelled": False, "updated_at": "2026-01-01", **more}


def task(number: int, *annotations: dict[str, Any], name: str | None = None) -> dict[str, Any]:
    address = f"/data/upload/1/{number:08x}-{name or f'picture {number}.png'}"
    return {"id": number, "data": {"image": address}, "annotations": list(annotations), "predictions": []}


TASKS = (
    task(1, drawn((RING, "cat"), (DISC, "statue"))),
    task(2, drawn()),
    task(3),
    task(4, drawn((DISC, "cat"), (RING, "cat"))),
)


def fetch(url: str, task_id: int) -> npt.NDArray[np.uint8]:
    return np.full((*SIZE, 3), task_id, np.uint8)


def studio_of(tasks: Iterable[dict[str, Any]]) -> MemoryStudio:
    studio = MemoryStudio()
    for one in tasks:
        studio.hold(one)
    return studio


@pytest.fixture
def export(config: LabelingConfig, tmp_path: Path) -> Any:
    def run(plan: Plan, tasks: Sequence[dict[str, Any]] = TASKS, **more: Any) -> Any:
        studio: Any = studio_of(tasks)
        exporter = Exporter(plan, config, tmp_path, more.get("fetch", fetch), studio)
        return exporter.run(exporter.tasks(), lambda: None)

    return run


def test_index_masks(export: Any, tmp_path: Path) -> None:
    summary = export(PLAN)
    assert (summary.written, summary.without, summary.problems) == (3, 1, {})
    assert (tmp_path / "classes.txt").read_text() == "cat\nstatue\n"
    index = np.array(Pillow.open(tmp_path / "masks" / "picture 1.png"))
    assert (index == np.where(DISC, 2, RING.astype(int))).all()
    assert not np.array(Pillow.open(tmp_path / "masks" / "picture 2.png")).any()
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [f"picture {i}.png" for i in (1, 2, 4)]


def test_coco_is_read_by_pycocotools(export: Any, tmp_path: Path) -> None:
    export(replace(PLAN, format="coco"))
    coco = COCO(str(tmp_path / "annotations.json"))
    assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == ["cat", "statue"]
    assert sorted(coco.getImgIds()) == [1, 2, 4]
    first = coco.loadAnns(coco.getAnnIds(imgIds=1))
    assert [one["category_id"] for one in first] == [1, 2]
    assert (coco.annToMask(first[0]) == RING).all()
    assert (coco.annToMask(first[1]) == DISC).all()
    assert first[0]["area"] == RING.sum()
    assert first[1]["bbox"] == [36, 16, 19, 19]
    assert coco.getAnnIds(imgIds=2) == []


def test_coco_is_read_by_supervision(export: Any, tmp_path: Path) -> None:
    export(replace(PLAN, format="coco"))
    dataset = sv.DetectionDataset.from_coco(str(tmp_path / "images"), str(tmp_path / "annotations.json"))
    assert dataset.classes == ["cat", "statue"]
    found = {Path(path).name: detections for path, _, detections in dataset}
    assert (found["picture 1.png"].mask == np.stack([RING, DISC])).all()
    assert (found["picture 4.png"].mask == np.stack([DISC, RING])).all()


@pytest.mark.parametrize(("tolerance", "same"), [(0.0, 1.0), (0.5, 0.97)])
def test_yolo_is_read_by_supervision(export: Any, tmp_path: Path, tolerance: float, same: float) -> None:
    export(replace(PLAN, format="yolo-seg", tolerance=tolerance))
    dataset = sv.DetectionDataset.from_yolo(
        str(tmp_path / "images"), str(tmp_path / "labels"), str(tmp_path / "data.yaml"), force_masks=True
    )
    assert dataset.classes == ["cat", "statue"]
    found = {Path(path).name: detections for path, _, detections in dataset}
    assert found["picture 1.png"].class_id.tolist() == [0, 1]
    for mask, expected in zip(found["picture 1.png"].mask, (RING, DISC), strict=True):
        assert (mask & expected).sum() / (mask | expected).sum() >= same
    assert len(found["picture 2.png"]) == 0


def test_scores_of_predictions_are_kept(export: Any, tmp_path: Path) -> None:
    result = [brush.region(DISC, "cat", "mask", "image", 0.8, "a")]
    predictions = [
        {"id": 2, "model_version": "car-demo-2", "result": result},
        {"id": 1, "model_version": "car-demo-1", "result": []},
        {"id": 3, "model_version": "somebody else's", "result": []},
    ]
    tasks = [{**task(1), "predictions": predictions}, {**task(2), "predictions": predictions[2:]}]
    summary = export(Plan(1, "coco", "predictions", ("cat", "statue")), tasks)
    assert (summary.written, summary.without) == (1, 1)
    whole = json.loads((tmp_path / "annotations.json").read_text())
    assert [one["score"] for one in whole["annotations"]] == [0.8]
    assert whole["images"] == [{"id": 1, "file_name": "picture 1.png", "width": 60, "height": 40}]


def test_a_problem_is_told_and_the_others_go_on(export: Any, tmp_path: Path) -> None:
    def away(url: str, task_id: int) -> npt.NDArray[np.uint8]:
        if task_id == 2:
            raise ImageError("404 Not Found")
        return fetch(url, task_id)

    other = drawn((DISC, "dog"))
    summary = export(PLAN, [*TASKS, task(5, other)], fetch=away)
    assert summary.written == 2
    reason = "a region is called dog, which is no label of the labeling config"
    assert summary.problems == {2: "404 Not Found", 5: reason}


def test_an_image_that_changed_its_size_is_a_problem(export: Any) -> None:
    summary = export(PLAN, TASKS[:1], fetch=lambda url, task_id: np.zeros((10, 10, 3), np.uint8))
    assert summary.problems == {1: "the image is 10 x 10 now, its regions were drawn on 60 x 40"}


@pytest.mark.parametrize("format", ["png", "coco", "yolo-seg"])
def test_an_interrupted_export_goes_on_and_is_the_same(
    export: Any, config: LabelingConfig, tmp_path: Path, format: str
) -> None:
    plan, straight, broken_off = replace(PLAN, format=format), tmp_path / "straight", tmp_path / "broken off"
    studio: Any = studio_of(TASKS)
    Exporter(plan, config, straight, fetch).run(studio.tasks(PLAN.project, whole=True), lambda: None)
    walked: list[int] = []

    def told() -> None:
        walked.append(len(walked) + 1)
        if len(walked) in (1, 3):
            raise KeyboardInterrupt

    def go_on(told: Callable[[], None]) -> Summary:
        exporter = Exporter(plan, config, broken_off, fetch, studio)
        return exporter.run(exporter.tasks(), told)

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            go_on(told)
        with (broken_off / "export.partial.jsonl").open("a") as log:
            log.write('{"task": 99, "st')  # killed in mid-line
    summary = go_on(told)
    assert walked == [1, 2, 3, 4]
    assert (summary.written, summary.without) == (3, 1)
    assert files(broken_off) == files(straight)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_again_after_changes_is_as_if_for_the_first_time(export: Any, tmp_path: Path) -> None:
    export(PLAN)
    summary = export(PLAN, [task(2, drawn((DISC, "cat")))])
    assert summary.written == 1
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["picture 2.png"]
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["picture 2.png"]
    assert (np.array(Pillow.open(tmp_path / "masks" / "picture 2.png")) == DISC).all()


def test_a_folder_with_another_export_is_refused(export: Any) -> None:
    export(PLAN)
    with pytest.raises(ExportError, match="holds another export"):
        export(replace(PLAN, format="coco"))


def test_equal_names_stay_apart(export: Any, tmp_path: Path) -> None:
    export(PLAN, [task(1, drawn(), name="a.jpg"), task(2, drawn(), name="a.jpg"), task(3, drawn(), name="a.png")])
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["a-2.png", "a-3.png", "a.png"]
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["a-2.jpg", "a-3.png", "a.jpg"]


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ([], None),
        ([drawn(was_cancelled=True)], None),
        ([drawn(id=1, updated_at="2"), drawn(id=2, updated_at="1")], 1),
        ([drawn(id=1, updated_at="2"), drawn(id=2, updated_at="1", ground_truth=True)], 2),
        ([drawn(id=1, updated_at="1"), drawn(id=2, updated_at="2", was_cancelled=True)], 1),
    ],
)
def test_which_annotation_counts(annotations: list[dict[str, Any]], expected: int | None) -> None:
    found = chosen({"annotations": annotations}, PLAN)
    assert (found and found["id"]) == expected


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/data/upload/1/0123abcd-my%20cat.jpg", "my cat.jpg"),
        ("/data/local-files/?d=pets/cats/1.png", "1.png"),
        ("s3://bucket/deep/0123abcd-a.png", "0123abcd-a.png"),
        ("https://example.com/a.png?X-Amz-Signature=0", "a.png"),
        ("https://example.com/..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("https://example.com/a%00b%5Cc.png", "a_b_c.png"),
        ("https://example.com/.htaccess", "htaccess"),
        ("https://example.com/", "image.png"),
        ("https://example.com/%2E%2E", "image.png"),
        ("data:image/png;base64,aaaa", "image.png"),
    ],
)
def test_names_of_files(address: str, name: str) -> None:
    assert file_name(address) == name
