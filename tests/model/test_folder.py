from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from model.benchmarks import folder
from model.benchmarks.dataset import IGNORE, DatasetError
from model.benchmarks.datasets import read
from model.benchmarks.plans import Plan
from model.presets import preset
from model.segmenter import Segmenter
from model.vocabulary import Query
from tests.weights import CLIP


@pytest.fixture
def dataset(tmp_path: Path, studio: Path) -> Path:
    for name in ("images", "masks", "queries"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for path in sorted((studio / name).glob("00[01].*")):
            (tmp_path / "data" / name / path.name).write_bytes(path.read_bytes())
    (tmp_path / "data" / "classes.txt").write_bytes((studio / "classes.txt").read_bytes())
    return tmp_path / "data"


@pytest.fixture
def evaluate(dataset: Path, tmp_path: Path, segmenter_of: Callable[..., Segmenter]) -> Callable[..., dict[str, Any]]:
    def run(**settings: Any) -> dict[str, Any]:
        plan = Plan("folder", dataset, preset("demo"), **settings)
        return plan.measure(tmp_path / "results", lambda: segmenter_of(weights=str(CLIP)), quiet=True)[1]

    return run


def test_examples(dataset: Path) -> None:
    read = folder.read(dataset)
    assert [example.name for example in read.examples] == ["000", "001"]
    assert len(read.examples[0].queries) == 20
    truth = read.examples[0].truth.read()
    assert truth.shape == (320, 384)
    (dataset / "queries" / "000.txt").unlink()
    assert len(folder.read(dataset).examples[0].queries) == 140


@pytest.mark.parametrize(("kind", "ignore"), [(np.uint8, 255), (np.uint16, 65535)])
def test_the_largest_value_means_ignore(dataset: Path, kind: type, ignore: int) -> None:
    Pillow.fromarray(np.array([[0, 1, 20, ignore]], kind)).save(dataset / "masks" / "000.png")
    assert folder.read(dataset).examples[0].truth.read().tolist() == [[0, 1, 20, IGNORE]]


def no_masks(root: Path) -> None:
    (root / "masks" / "001.png").unlink()


def no_images(root: Path) -> None:
    for path in (root / "images").iterdir():
        path.unlink()


def no_classes(root: Path) -> None:
    (root / "classes.txt").unlink()


def other_queries(root: Path) -> None:
    (root / "queries" / "000.txt").write_text("unheard of\n")


def colour_masks(root: Path) -> None:
    Pillow.new("RGB", (384, 320)).save(root / "masks" / "000.png")


def small_masks(root: Path) -> None:
    Pillow.new("L", (38, 32)).save(root / "masks" / "000.png")


def large_numbers(root: Path) -> None:
    Pillow.new("L", (384, 320), 200).save(root / "masks" / "000.png")


def no_picture(root: Path) -> None:
    (root / "masks" / "000.png").write_text("none")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (no_masks, "001.png has no ground truth"),
        (no_images, "holds no image"),
        (no_classes, "classes.txt is missing"),
        (other_queries, "asks for 'unheard of'"),
        (colour_masks, "no index mask: it has 3 channels"),
        (small_masks, r"000.png is \(32, 38\), the image is \(320, 384\)"),
        (large_numbers, "000.png has the value 200, but there are 140 classes"),
        (no_picture, "000.png cannot be read as an index mask"),
    ],
)
def test_broken_data_sets(
    dataset: Path, break_it: Callable[[Path], None], message: str, evaluate: Callable[..., dict[str, Any]]
) -> None:
    break_it(dataset)
    with pytest.raises(DatasetError, match=message):
        evaluate()


def test_evaluate(evaluate: Callable[..., dict[str, Any]]) -> None:
    assert evaluate(limit=1)["images"] == 1
    figures = evaluate()
    assert set(figures) >= {"miou", "miou_with_background", "per_class", "images", "seconds"}
    assert figures["images"] == 2
    assert figures["per_class"]["background"] > 0.8
    assert figures["miou"] == pytest.approx(
        np.mean([iou for label, iou in figures["per_class"].items() if label != "background"])
    )


def test_labels_may_stand_for_other_texts(evaluate: Callable[..., dict[str, Any]]) -> None:
    """A label that is searched by a text that fits nothing is not found; the scores of what is found are compared."""
    usual = evaluate()
    found = max((iou, label) for label, iou in usual["per_class"].items() if label != "background")[1]
    other = evaluate(queries=[Query(found, ("qqq xyz",))])
    assert usual["per_class"][found] > 0.5
    assert other["per_class"][found] == 0
    assert 0 <= usual["calibration_error"] <= 1
    assert {row["low"] for row in usual["reliability"]} <= {i / 10 for i in range(10)}


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [("lvis", None, "no data set 'lvis'; there are: folder, voc,"), ("folder", "val", "folder has no split 'val'")],
)
def test_unknown_names(dataset: Path, name: str, split: str | None, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read(name, dataset, split)
