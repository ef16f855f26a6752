"""Each reader on a small made-up data set in the official layout: 2 x 3 pixels that one can check by eye."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from scipy.io import savemat

from model.benchmarks.class_lists import class_list
from model.benchmarks.dataset import IGNORE, Dataset, DatasetError
from model.benchmarks.datasets import READERS, entries, read

X = IGNORE


def picture(path: Path, pixels: list[list[int]] | None = None, kind: type = np.uint8, palette: bool = False) -> None:
    """Write an index picture, or an RGB image of 2 x 3 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Pillow.new("RGB", (3, 2)) if pixels is None else Pillow.fromarray(np.array(pixels, kind))
    if palette:
        image = image.convert("P")
        image.putpalette(bytes(range(256)) * 3)
    image.save(path)


def text(path: Path, *lines: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding=encoding)


def data(path: Path, content: Any) -> None:
    text(path, json.dumps(content))


def truths(dataset: Dataset) -> list[Any]:
    return [example.truth.read().tolist() for example in dataset.examples]


def make_voc(root: Path) -> None:
    home = root / "VOCdevkit" / "VOC2012"
    text(home / "ImageSets" / "Segmentation" / "val.txt", "2007_000033", "2007_000042")
    for name in ("2007_000033", "2007_000042", "2007_000061"):
        picture(home / "JPEGImages" / f"{name}.jpg")
        picture(home / "SegmentationClass" / f"{name}.png", [[0, 1, 255], [20, 0, 7]], palette=True)


def make_context(root: Path) -> None:
    home = root / "VOCdevkit" / "VOC2010"
    text(home / "ImageSets" / "SegmentationContext" / "val.txt", "2008_000002")
    picture(home / "JPEGImages" / "2008_000002.jpg")
    picture(home / "SegmentationClassContext" / "2008_000002.png", [[0, 1, 59], [29, 0, 7]])


def make_context_mat(root: Path) -> None:
    make_context(root)
    home = root / "VOCdevkit" / "VOC2010"
    text(home / "labels.txt", "1: accordion", "2: aeroplane", "258: grass", "459: wood", "416: tvmonitor")
    (home / "trainval").mkdir()
    savemat(home / "trainval" / "2008_000002.mat", {"LabelMap": np.array([[1, 2, 258], [459, 416, 3]], np.uint16)})


def make_coco_maps(root: Path) -> None:
    for name in ("000000000139", "000000000285"):
        picture(root / "coco" / "images" / "val2017" / f"{name}.jpg")
        picture(root / "coco" / "stuffthingmaps" / "val2017" / f"{name}.png", [[0, 10, 12], [89, 91, 255]])


def make_coco_instances(root: Path) -> None:
    """A large box of persons, a small toothbrush in it, and a crowd of stop signs as run lengths."""
    picture(root / "coco" / "val2017" / "000000000139.jpg")
    box = [0, 0, 2, 0, 2, 2, 0, 2]
    annotations = [
        {"image_id": 139, "category_id": 90, "area": 1, "segmentation": [[0, 0, 1, 0, 1, 1, 0, 1]], "iscrowd": 0},
        {"image_id": 139, "category_id": 1, "area": 4, "segmentation": [box], "iscrowd": 0},
        {"image_id": 139, "category_id": 13, "area": 2, "segmentation": {"counts": [4, 2], "size": [2, 3]}},
    ]
    image = {"id": 139, "file_name": "000000000139.jpg", "height": 2, "width": 3}
    data(root / "coco" / "annotations" / "instances_val2017.json", {"images": [image], "annotations": annotations})


def make_ade(root: Path) -> None:
    home = root / "ADEChallengeData2016"
    picture(home / "images" / "validation" / "ADE_val_00000001.jpg")
    picture(home / "annotations" / "validation" / "ADE_val_00000001.png", [[0, 1, 150], [3, 0, 7]])


def make_ade847(root: Path) -> None:
    home = root / "ADE20K_2021_17_01"
    picture(home / "images_detectron2" / "validation" / "ADE_val_00000001.jpg")
    tiff = home / "annotations_detectron2" / "validation" / "ADE_val_00000001.tif"
    picture(tiff, [[0, 846, 65535], [300, 1, 65535]], np.uint16)


SEMANTIC = [
    ("voc", make_voc, [[0, 1, X], [20, 0, 7]]),
    ("voc20", make_voc, [[X, 1, X], [20, X, 7]]),
    ("context", make_context, [[0, 1, 59], [29, 0, 7]]),
    ("context59", make_context, [[X, 1, 59], [29, X, 7]]),
    ("context", make_context_mat, [[0, 1, 29], [59, 55, 0]]),
    ("context59", make_context_mat, [[X, 1, 29], [59, 55, X]]),
    ("coco-object", make_coco_maps, [[1, 11, 12], [80, 0, 0]]),
    ("coco-object", make_coco_instances, [[80, 1, 12], [1, 1, 12]]),
    ("ade", make_ade, [[X, 1, 150], [3, X, 7]]),
    ("ade847", make_ade847, [[1, 847, X], [301, 2, X]]),
]


@pytest.mark.parametrize(("name", "make", "expected"), SEMANTIC)
def test_labels(name: str, make: Callable[[Path], None], expected: list[list[int]], tmp_path: Path) -> None:
    make(tmp_path)
    dataset = read(name, tmp_path)
    assert truths(dataset)[0] == expected
    assert (dataset.name, dataset.split, dataset.task) == (name, entries()[name].splits[0], "labels")
    assert dataset.background == (name not in ("voc20", "context59", "ade", "ade847"))
    example = dataset.examples[0]
    assert example.image.is_file()
    assert tuple(query.label for query in example.queries) == dataset.classes
    assert len({example.name for example in dataset.examples}) == len(dataset.examples)


def test_only_what_a_split_lists(tmp_path: Path) -> None:
    make_voc(tmp_path)
    assert [example.name for example in read("voc", tmp_path).examples] == ["2007_000033", "2007_000042"]
    assert read("voc", tmp_path / "VOCdevkit" / "VOC2012").examples == read("voc", tmp_path).examples


REFS = [
    {"ref_id": 7, "ann_id": 70, "image_id": 5, "split": "val", "sentences": [{"raw": "Left box", "sent": "left box"}]},
    {"ref_id": 8, "ann_id": 80, "image_id": 5, "split": "val", "sentences": [{"sent": "corner"}, {"sent": "/"}]},
    {"ref_id": 9, "ann_id": 70, "image_id": 5, "split": "testA", "sentences": [{"sent": "it"}]},
]


def make_refcoco(root: Path, name: str = "refcoco", by: str = "unc") -> None:
    """Two objects in one image: the left column in one polygon, and two corners in two."""
    home = root / "refer" / "data"
    picture(home / "images" / "mscoco" / "images" / "train2014" / "COCO_train2014_000000000005.jpg")
    square = [[0, 0, 1, 0, 1, 1, 0, 1], [2, 1, 3, 1, 3, 2, 2, 2]]
    instances = {
        "images": [{"id": 5, "file_name": "COCO_train2014_000000000005.jpg", "height": 2, "width": 3}],
        "annotations": [
            {"id": 70, "segmentation": [[0, 0, 1, 0, 1, 2, 0, 2]]},
            {"id": 80, "segmentation": square},
        ],
    }
    data(home / name / "instances.json", instances)
    (home / name / f"refs({by}).p").write_bytes(pickle.dumps(REFS, protocol=2))


@pytest.mark.parametrize(
    ("name", "by", "split"),
    [("refcoco", "unc", "val"), ("refcoco+", "unc", "val"), ("refcocog", "umd", "val"), ("refcocog", "google", None)],
)
def test_objects(name: str, by: str, split: str | None, tmp_path: Path) -> None:
    make_refcoco(tmp_path, name, by)
    dataset = read(name, tmp_path, split or "val-google")
    (example,) = dataset.examples
    assert dataset.task == "objects"
    assert [(query.label, query.prompts) for query in example.queries] == [("7", ("Left box",)), ("8", ("corner",))]
    left, corners = [[True, False, False]] * 2, [[True, False, False], [False, False, True]]
    assert truths(dataset) == [[left, corners]]


def test_other_splits_and_converted_lists(tmp_path: Path) -> None:
    make_refcoco(tmp_path)
    folder = tmp_path / "refer" / "data" / "refcoco"
    assert [query.label for query in read("refcoco", tmp_path, "testA").examples[0].queries] == ["9"]
    (folder / "refs(unc).p").unlink()
    data(folder / "refs(unc).json", REFS[:1])
    assert [query.label for query in read("refcoco", tmp_path).examples[0].queries] == ["7"]
    with pytest.raises(DatasetError, match="no sentences of the split 'testB'"):
        read("refcoco", tmp_path, "testB")


def make_davis(root: Path) -> None:
    for frame, pixels in (("00000", [[0, 1, 1], [2, 2, 0]]), ("00001", [[0, 0, 1], [0, 2, 2]])):
        picture(root / "DAVIS" / "JPEGImages" / "480p" / "dogs-scale" / f"{frame}.jpg")
        picture(root / "DAVIS" / "Annotations" / "480p" / "dogs-scale" / f"{frame}.png", pixels, palette=True)
    text(root / "DAVIS" / "ImageSets" / "2017" / "val.txt", "dogs-scale")
    for which, encoding in (("1", "utf-8"), ("2", "latin-1")):
        for video in ("", "_full_video"):
            path = root / "davis_text_annotations" / f"Davis17_annot{which}{video}.txt"
            text(path, f'dog-scale 1 "a dog {which}{video}"', 'dog-scale 2 "the caf\u00e9"', encoding=encoding)


def test_video(tmp_path: Path) -> None:
    make_davis(tmp_path)
    dataset = read("ref-davis", tmp_path)
    assert [example.name for example in dataset.examples] == ["dogs-scale.00000", "dogs-scale.00001"]
    queries = {query.label: query.prompts for query in dataset.examples[0].queries}
    assert len(queries) == 8
    assert queries["1-2"] == ("a dog 1_full_video",)
    assert queries["2-4"] == ("the caf\u00e9",)
    masks = dataset.examples[1].truth.read()
    first = masks[[query.label for query in dataset.examples[1].queries].index("1-3")]
    assert first.tolist() == [[False, False, True], [False, False, False]]


def remove(pattern: str) -> Callable[[Path], None]:
    def run(root: Path) -> None:
        for path in root.rglob(pattern):
            path.unlink()

    return run


def write(pattern: str, content: bytes) -> Callable[[Path], None]:
    def run(root: Path) -> None:
        for path in root.rglob(pattern):
            path.write_bytes(content)

    return run


def nothing(root: Path) -> None:
    pass


NO_SENTENCE = json.dumps([{**REFS[0], "sentences": [{"sent": " / "}]}]).encode()
NO_DRAWING = json.dumps([{**REFS[0], "ann_id": 71}]).encode()


@pytest.mark.parametrize(
    ("name", "make", "break_it", "message"),
    [
        (
            "voc",
            nothing,
            nothing,
            r"no folder .*VOCdevkit/VOC2012 or .*docs/benchmarks.md says where|val.txt is missing",
        ),
        ("voc", make_voc, remove("val.txt"), "val.txt is missing"),
        ("voc", make_voc, remove("2007_000042.png"), "2007_000042.jpg has no ground truth"),
        ("context", make_context_mat, write("*.mat", b"none"), "no MAT file with a LabelMap"),
        ("context", make_context_mat, write("labels.txt", b"1 accordion"), "should be a number, a colon and a label"),
        (
            "context",
            make_context_mat,
            write("labels.txt", b"1: accordion"),
            "label 459, which labels.txt does not list",
        ),
        ("coco-object", make_coco_maps, remove("*.png"), "neither pixel maps nor .*instances_val2017.json"),
        ("coco-object", make_coco_maps, remove("000000000285.png"), "000000000285.jpg has no ground truth"),
        ("ade", make_ade, remove("*.jpg"), "holds no image"),
        ("ade847", make_ade847, write("*.tif", b"none"), "cannot be read as an index mask"),
        ("refcoco", make_refcoco, remove("instances.json"), "instances.json is missing"),
        ("refcoco", make_refcoco, remove("refs*.p"), r"refs\(unc\).p is missing"),
        ("refcoco", make_refcoco, write("refs*.p", pickle.dumps({"a": 1})), "should be a list of objects"),
        ("refcoco", make_refcoco, write("refs*.p", pickle.dumps(json.loads(NO_SENTENCE))), "object 7 has no sentence"),
        ("refcoco", make_refcoco, write("refs*.p", pickle.dumps(json.loads(NO_DRAWING))), "lacks what the object 7"),
        ("ref-davis", make_davis, remove("Davis17_annot2.txt"), "Davis17_annot2.txt is missing"),
        ("ref-davis", make_davis, write("val.txt", b"bear"), "describes nothing in bear"),
        (
            "ref-davis",
            make_davis,
            write("Davis17_annot1.txt", b"bear one"),
            'should be a video, a number and a "sentence"',
        ),
    ],
)
def test_broken(
    name: str, make: Callable[[Path], None], break_it: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    make(tmp_path)
    break_it(tmp_path)
    with pytest.raises(DatasetError, match=message):
        truths(read(name, tmp_path))


def test_every_data_set_has_a_reader_and_a_preset() -> None:
    from model.benchmarks.plans import settings_for

    assert entries().keys() == READERS.keys()
    for name in entries():
        assert settings_for(name).name == entries()[name].preset
    assert settings_for("voc20").background_power == 1000


def test_texts_of_another_list(tmp_path: Path) -> None:
    """A benchmark's own texts are those of the released code; other ones may stand for them, by the label."""
    make_voc(tmp_path)
    own = read("voc", tmp_path).examples[0].queries
    assert own == class_list("voc")
    other = read("voc", tmp_path, queries=class_list("coco-object")).examples[0].queries
    changed = {mine.label for mine, theirs in zip(own, other, strict=True) if mine.prompts != theirs.prompts}
    assert changed <= {query.label for query in class_list("coco-object")}
