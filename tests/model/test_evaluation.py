"""The harness: records, figures, results on disk, and runs that are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from model.__main__ import main
from model.benchmarks.dataset import IGNORE, Dataset, DatasetError, Example
from model.benchmarks.figures import Tally
from model.benchmarks.plans import Plan
from model.benchmarks.records import ObjectRecord, Record, compare
from model.benchmarks.results import open_run, runs
from model.commands.evaluate import told
from model.presets import DEMO, preset
from model.segmentation import Segmentation
from model.segmenter import Segmenter
from model.vocabulary import vocabulary

# Records: 2 x 3 pixels, compared by hand.


class Known:
    """Ground truth that is at hand."""

    stamp = ""

    def __init__(self, *rows: Any) -> None:
        self.rows = rows

    def read(self) -> np.ndarray:
        return np.array(self.rows)


def found(**masks: list[list[int]]) -> Segmentation:
    """A result with these masks, all with a score of 0.75."""
    stacked = np.array(list(masks.values()), bool) if masks else np.zeros((0, 2, 3), bool)
    scores = np.full(len(masks), 0.75, np.float32)
    return Segmentation(tuple(masks), stacked, scores, {}, (), {"total": 0.5})


def example(name: str, truth: Known, *labels: str) -> Example:
    return Example(name, Path(f"{name}.png"), vocabulary(labels), truth)


def test_labels_compared() -> None:
    """Cat: 1 of 3 pixels hit and one too many; dog: not there, one pixel drawn and one where nothing is known."""
    dataset = Dataset("folder", "all", "labels", (), ("cat", "dog", "cow"))
    truth = Known([1, 1, 1], [0, 0, IGNORE])
    result = found(cat=[[1, 0, 0], [1, 0, 0]], dog=[[0, 0, 1], [0, 0, 1]])
    record = compare(dataset, example("a", truth, "cat", "dog", "cow"), result)
    assert set(record.confusion) == {(0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 1, 1), (1, 2, 1)}
    assert record.iou == pytest.approx((1 / 4 + 0) / 2)
    assert [(f.present, f.iou) for f in record.findings] == [(True, 0.25), (False, 0.0)]
    assert record.present == 1
    tally = Tally(dataset_scheme(dataset))
    tally.add(record)
    figures = tally.figures()
    assert (figures["precision"], figures["recall"]) == (0.5, 1.0)
    assert figures["per_class"] == pytest.approx({"background": 1 / 3, "cat": 1 / 4, "dog": 0})
    assert tally.running() == "mIoU 0.125"


def dataset_scheme(dataset: Dataset, protocol: str = "default") -> Any:
    from model.benchmarks.figures import Scheme

    return Scheme(dataset.task, dataset.classes, dataset.background, protocol)


def test_objects_compared() -> None:
    """Masks of objects may overlap; one that is not found has no pixel in common with its ground truth."""
    dataset = Dataset("refcoco", "val", "objects", ())
    truth = Known([[True, True, False], [False] * 3], [[False] * 3, [True] * 3])
    record = compare(dataset, example("a", truth, "7", "8"), found(**{"7": [[1, 0, 0], [1, 0, 0]]}))
    assert record.objects == (ObjectRecord("7", 1, 3), ObjectRecord("8", 0, 3))
    assert record.iou == pytest.approx(1 / 6)
    tally = Tally(dataset_scheme(dataset))
    tally.add(record)
    figures = tally.figures()
    assert (figures["miou"], figures["oiou"], figures["objects"]) == pytest.approx((1 / 6, 1 / 6, 2))


def test_frames_are_averaged_by_object_and_objects_by_all() -> None:
    """Object 1 of a: J 1 and 0, F 1 and 0.5. Object 2 of a: J 1. Object 1 of b: J 0. So J is (0.5 + 1 + 0) / 3."""
    tally = Tally(dataset_scheme(Dataset("ref-davis", "val", "video", ())))
    tally.add(Record("a.00000", 1, 1, objects=(ObjectRecord("1", 4, 4, 1.0), ObjectRecord("2", 0, 0, 1.0))))
    tally.add(Record("a.00001", 1, 1, objects=(ObjectRecord("1", 0, 4, 0.5),)))
    tally.add(Record("b.00000", 1, 0, objects=(ObjectRecord("1", 0, 4, 0.0),)))
    figures = tally.figures()
    assert (figures["j"], figures["f"]) == pytest.approx((0.5, (0.75 + 1 + 0) / 3))
    assert figures["j_and_f"] == pytest.approx((0.5 + 1.75 / 3) / 2)
    assert figures["per_video"] == {"a": pytest.approx({"j": 0.75, "f": 0.875}), "b": {"j": 0, "f": 0}}


def test_what_is_found_where_nothing_is_known_is_neither_right_nor_wrong() -> None:
    dataset = Dataset("folder", "all", "labels", (), ("cat",))
    truth = Known([IGNORE, IGNORE, IGNORE], [0, 0, 0])
    assert compare(dataset, example("a", truth, "cat"), found(cat=[[1, 0, 0], [0, 0, 0]])).findings == ()


@pytest.mark.parametrize(
    ("dataset", "records", "none"),
    [
        (
            Dataset("folder", "all", "labels", (), ("cat",)),
            (),
            ("miou", "miou_with_background", "precision", "recall", "calibration_error"),
        ),
        (
            Dataset("folder", "all", "labels", (), ("cat",)),
            (Record("a", 1, None, ((0, 0, 6),)),),  # no cat, and none found
            ("miou", "precision", "recall", "calibration_error"),
        ),
        (Dataset("refcoco", "val", "objects", ()), (), ("miou", "oiou")),
        (Dataset("ref-davis", "val", "video", ()), (), ("miou", "j_and_f", "j", "f")),
    ],
)
def test_figures_of_nothing_are_none(dataset: Dataset, records: tuple[Record, ...], none: tuple[str, ...]) -> None:
    tally = Tally(dataset_scheme(dataset))
    for record in records:
        tally.add(record)
    figures = json.loads(json.dumps(tally.figures()))
    assert {name for name, figure in figures.items() if figure is None} == set(none)
    assert tally.running() == "mIoU none"
    assert told(figures).count("none") >= len(none) - (dataset.task == "video"), "`miou` is `j`"


def test_an_image_without_any_label_has_no_iou() -> None:
    dataset = Dataset("folder", "all", "labels", (), ("cat",))
    record = compare(dataset, example("a", Known([0, 0, 0], [0, 0, 0]), "cat"), found())
    assert record.iou is None
    assert Record.from_json(json.loads(json.dumps(record.as_json()))) == record


@pytest.mark.parametrize(
    ("dataset", "truth"),
    [
        (Dataset("folder", "all", "labels", (), ("cat",)), Known([0, 1, IGNORE], [1, 0, 0])),
        (Dataset("refcoco", "val", "objects", ()), Known([[True, False, False], [False] * 3])),
        (Dataset("ref-davis", "val", "video", ()), Known([[True, False, False], [False] * 3])),
    ],
)
def test_records_keep_their_numbers_on_disk(dataset: Dataset, truth: Known) -> None:
    record = compare(dataset, example("a.00000", truth, "cat"), found(cat=[[1, 0, 0], [1, 1, 1]]))
    assert Record.from_json(json.loads(json.dumps(record.as_json()))) == record


# Whole runs on the shipped scenes.


def numbers(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if name != "seconds"}


def plan(root: Path, **changes: Any) -> Plan:
    return Plan(**{"dataset": "folder", "root": root, "preset": preset("demo"), "limit": 3, **changes})


def test_a_second_run_measures_nothing_again(
    studio: Path, tmp_path: Path, segmenter_of: Callable[..., Segmenter]
) -> None:
    run, first = plan(studio, limit=2).measure(tmp_path, lambda: segmenter_of(), quiet=True)
    assert len(list((run.folder / "images").iterdir())) == len(list((run.folder / "masks").iterdir())) == 2
    assert run.mask("000").shape == (320, 384)

    def never() -> Segmenter:
        raise AssertionError("weights are loaded although there is nothing to do")

    assert plan(studio, limit=2).measure(tmp_path, never, quiet=True)[1] == first
    assert plan(studio, limit=1).measure(tmp_path, never, quiet=True)[1]["images"] == 1
    damaged = run.folder / "images" / "001.json"
    damaged.write_text(damaged.read_text()[:40])
    again = plan(studio, limit=2).measure(tmp_path, lambda: segmenter_of(), quiet=True)[1]
    assert numbers(again) == numbers(first)


def test_other_settings_and_other_files_do_not_mix(studio: Path, tmp_path: Path) -> None:
    def run_of(**changes: Any) -> str:
        chosen = plan(**{"root": studio, **changes})
        from model.benchmarks.datasets import read
        from model.benchmarks.results import setup_of

        return setup_of(read("folder", chosen.root), chosen.root, chosen.preset, chosen.weights).folder

    own = run_of()
    assert own == run_of(limit=9, protocol="car", workers=4, weights="demo")
    other = tmp_path / "studio"
    for part in ("images", "masks", "queries"):
        (other / part).mkdir(parents=True)
        for path in (studio / part).iterdir():
            (other / part / path.name).write_bytes(path.read_bytes())
    (other / "classes.txt").write_bytes((studio / "classes.txt").read_bytes())
    assert run_of(root=other) == own, "moved files are the same files"
    (other / "queries" / "003.txt").write_text("pizza\n")
    Pillow.new("L", (384, 320)).save(other / "masks" / "004.png")
    folders = {run_of(root=other), run_of(preset=preset("demo", {"eta": "0.31"})), run_of(weights="random")}
    assert len({own, *folders}) == 4


def test_results_of_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no results"):
        list(runs(tmp_path))
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(DatasetError, match="holds no results of an evaluation"):
        open_run(tmp_path)


def command(studio: Path, results: Path, *more: str) -> "subprocess.Popen[bytes]":
    arguments = ["evaluate", "folder", "--root", str(studio), "--results", str(results), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "model", *arguments], env=environment, stderr=subprocess.DEVNULL)


def wait_for(condition: Callable[[], bool], seconds: float = 400) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_killed_run_goes_on_and_gives_the_same_numbers(workers: str, studio: Path, tmp_path: Path) -> None:
    """The process is killed amid its images; a second one measures the rest. Nothing is left behind."""
    process = command(studio, tmp_path / "killed", "--limit", "5", "--workers", workers)
    try:
        wait_for(lambda: len(list((tmp_path / "killed").glob("*/images/*.json"))) >= 2)
        helpers = children(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = len(list((tmp_path / "killed").glob("*/images/*.json")))
    assert 2 <= kept < 5
    wait_for(lambda: not any(map(alive, helpers)))
    more = command(
        studio, tmp_path / "killed", "--limit", "5", "--workers", workers, "--json", str(tmp_path / "a.json")
    )
    assert more.wait(timeout=600) == 0
    # In a process of its own, too: another number of threads would round differently.
    straight = command(studio, tmp_path / "whole", "--limit", "5", "--json", str(tmp_path / "b.json"))
    assert straight.wait(timeout=600) == 0
    pieces, whole = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert numbers(pieces) == numbers(whole)
    assert whole["images"] == 5
    (killed,) = runs(tmp_path / "killed")
    assert killed.folder.name == next(runs(tmp_path / "whole")).folder.name


# The other tasks, on a scene of the shipped ones.

OBJECTS = {"red apple": "the red apple", "playstation logo": "the playstation logo"}


@pytest.fixture
def scene() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A scene and the masks of two objects in it."""
    root = DEMO / "scenes" / "val"
    names = (root / "classes.txt").read_text().splitlines()
    with Pillow.open(root / "images" / "036.png") as image, Pillow.open(root / "masks" / "036.png") as mask:
        index = np.array(mask)
        return np.array(image.convert("RGB")), {name: index == names.index(name) + 1 for name in OBJECTS}


@pytest.mark.slow
def test_referring_expressions(
    scene: tuple[np.ndarray, dict[str, np.ndarray]],
    tmp_path: Path,
    segmenter_of: Callable[..., Segmenter],
    capsys: pytest.CaptureFixture[str],
) -> None:
    image, masks = scene
    home = tmp_path / "refer" / "refcoco"
    photos = tmp_path / "refer" / "train2014"
    for folder in (home, photos):
        folder.mkdir(parents=True)
    Pillow.fromarray(image).save(photos / "x.jpg", quality=95)
    height, width = image.shape[:2]
    annotations, refs = [], []
    for number, (name, mask) in enumerate(masks.items()):
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        polygons = [contour.ravel().tolist() for contour in contours if len(contour) > 3]
        annotations.append({"id": number, "segmentation": polygons})
        sentences = [{"sent": OBJECTS[name]}]
        refs.append({"ref_id": number, "ann_id": number, "image_id": 1, "split": "val", "sentences": sentences})
    images = [{"id": 1, "file_name": "x.jpg", "height": height, "width": width}]
    (home / "instances.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    (home / "refs(unc).json").write_text(json.dumps(refs))
    results, target = str(tmp_path / "results"), tmp_path / "figures.json"
    arguments = ["evaluate", "refcoco", "--root", str(tmp_path), "--preset", "demo", "--results", results]
    assert main([*arguments, "--json", str(target), "--report", str(tmp_path / "page.html")]) == 0
    figures = json.loads(target.read_text())
    assert figures["objects"] == 2
    assert figures["miou"] > 0.6
    assert figures["oiou"] > 0.6
    assert "oIoU" in capsys.readouterr().out
    assert "the red apple" in (tmp_path / "page.html").read_text()


@pytest.mark.slow
def test_described_videos(
    scene: tuple[np.ndarray, dict[str, np.ndarray]],
    tmp_path: Path,
    segmenter_of: Callable[..., Segmenter],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two frames of one scene: in the second one the apple's ground truth is empty, although the apple is there."""
    image, masks = scene
    frames, truths = (tmp_path / "DAVIS" / part / "480p" / "film" for part in ("JPEGImages", "Annotations"))
    for folder in (frames, truths, tmp_path / "DAVIS" / "ImageSets" / "2017", tmp_path / "davis_text_annotations"):
        folder.mkdir(parents=True)
    (tmp_path / "DAVIS" / "ImageSets" / "2017" / "val.txt").write_text("film\n")
    for name in ("annot1", "annot1_full_video", "annot2", "annot2_full_video"):
        path = tmp_path / "davis_text_annotations" / f"Davis17_{name}.txt"
        path.write_text('film 1 "the red apple"\nfilm 2 "the playstation logo"\n')
    for frame, index in (
        ("00000", masks["red apple"] + 2 * masks["playstation logo"]),
        ("00001", 2 * masks["playstation logo"]),
    ):
        Pillow.fromarray(image).save(frames / f"{frame}.jpg", quality=95)
        Pillow.fromarray(index.astype(np.uint8)).save(truths / f"{frame}.png")
    run, figures = plan(tmp_path, dataset="ref-davis", limit=None).measure(
        tmp_path / "results", lambda: segmenter_of(), quiet=True
    )
    assert figures["objects"] == 8
    first, second = sorted(run.records().values(), key=lambda record: record.name)
    apple = [one for one in first.objects if one.label.startswith("1-")]
    assert len({(one.intersection, one.union, one.boundary) for one in apple}) == 1
    assert apple[0].iou > 0.6
    assert (apple[0].boundary or 0) > 0.6
    assert {one.iou for one in second.objects if one.label.startswith("1-")} == {0}
    logo = next(one for one in first.objects if one.label == "2-1")
    assert figures["j"] == pytest.approx((apple[0].iou / 2 + logo.iou) / 2)
