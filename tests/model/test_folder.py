from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from model.benchmarks import folder
from model.segmenter import Segmenter
from model.vocabulary import Query


@pytest.fixture
def dataset(tmp_path: Path, studio: Path) -> Path:
    for name in ("images", "masks", "queries"):
        (tmp_path / name).mkdir()
        for path in sorted((studio / name).glob("00[01].*")):
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    (tmp_path / "classes.txt").write_bytes((studio / "classes.txt").read_bytes())
    return tmp_path


def test_samples(dataset: Path) -> None:
    samples = list(folder.samples(dataset))
    assert [sample.image.stem for sample in samples] == ["000", "001"]
    assert len(samples[0].queries) == 20
    truth, ignore = samples[0].truth()
    assert truth.shape == (320, 384)
    assert ignore == 255
    (dataset / "queries" / "000.txt").unlink()
    assert len(next(folder.samples(dataset)).queries) == 140


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


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (no_masks, "001.png has no ground truth"),
        (no_images, "holds no image"),
        (no_classes, "classes.txt is missing"),
        (other_queries, "asks for 'unheard of'"),
        (colour_masks, "no index mask: it has 3 channels"),
        (small_masks, r"is \(32, 38\), its image \(320, 384\)"),
    ],
)
def test_broken_data_sets(
    dataset: Path, break_it: Callable[[Path], None], message: str, segmenter_of: Callable[..., Segmenter]
) -> None:
    break_it(dataset)
    with pytest.raises(folder.DatasetError, match=message):
        folder.evaluate(segmenter_of(), dataset)


def test_evaluate(dataset: Path, segmenter_of: Callable[..., Segmenter]) -> None:
    figures = folder.evaluate(segmenter_of(), dataset)
    assert set(figures) >= {"miou", "miou_with_background", "per_class", "images", "seconds"}
    assert figures["images"] == 2
    assert figures["per_class"]["background"] > 0.8
    assert figures["miou"] == pytest.approx(
        np.mean([iou for label, iou in figures["per_class"].items() if label != "background"])
    )
    assert folder.evaluate(segmenter_of(), dataset, limit=1)["images"] == 1


def test_labels_may_stand_for_other_texts(dataset: Path, segmenter_of: Callable[..., Segmenter]) -> None:
    """A label that is searched by a text that fits nothing is not found; the scores of what is found are compared."""
    usual = folder.evaluate(segmenter_of(), dataset)
    found = max((iou, label) for label, iou in usual["per_class"].items() if label != "background")[1]
    other = folder.evaluate(segmenter_of(), dataset, queries=[Query(found, ("qqq xyz",))])
    assert usual["per_class"][found] > 0.5
    assert other["per_class"][found] == 0
    assert 0 <= usual["calibration_error"] <= 1
    assert {row["low"] for row in usual["reliability"]} <= {i / 10 for i in range(10)}
