from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.__main__ import main
from model.benchmarks.dataset import Dataset, DatasetError
from model.benchmarks.datasets import entries
from model.benchmarks.figures import Scheme
from model.benchmarks.metrics import quality
from model.benchmarks.records import Record
from model.benchmarks.results import Results, Setup, runs, setup_of
from model.benchmarks.tables import Cell, Measured, found, markdown, peers, table, titles


def cell_of(name: str, row: str, column: str) -> Cell:
    (cell,) = (cell for cell in table(name).cells if (cell.row, cell.column) == (row, column))
    return cell


@pytest.mark.parametrize(
    ("name", "row", "column", "paper"),
    [
        ("1", "CaR", "VOC21", "67.6"),
        ("1", "CaR", "A847", "8.1"),
        ("1", "CaR + SAM", "PC60", "31.1"),
        ("1", "TCL, PAMR (trained, 15M images)", "PC59", "33.9"),
        ("2", "CLIP-ES, no recurrence", "VOC21", "15.2"),
        ("3", "proposals ViT-B/16, classifier ViT-B/16", "COCO Object", "15.9"),
        ("4", "mask", "VOC21", "61.8"),
        ("5", "eta 0.5, theta 0.3, lambda 0.6", "COCO Object", "35.4"),
        ("6", "terrestrial, man-made", "VOC21", "65.8"),
        ("7", "GL CLIP", "RefCOCO+ testA", "25.64"),
        ("8", "CaR", "J", "28.15"),
        ("I", "OVSeg (trained on masks)", "RefCOCO testB", "25.63"),
        ("J", "PACL", "PC59", "50.1"),
    ],
)
def test_printed_figures(name: str, row: str, column: str, paper: str) -> None:
    assert cell_of(name, row, column).paper == paper


def test_all_tables_are_there_and_well_formed() -> None:
    assert list(titles()) == ["1", "2", "3", "4", "5", "6", "7", "8", "I", "J"]
    for name in titles():
        shown = table(name)
        keys = [(cell.row, cell.column) for cell in shown.cells]
        assert len(set(keys)) == len(keys)
        assert shown.measurable
        for cell in shown.cells:
            assert not cell.paper or 0 < float(cell.paper) < 100
        for cell in shown.measurable:
            assert cell.split in entries()[cell.dataset].splits
            assert cell.preset().name == entries()[cell.dataset].preset
    assert table("i").name == "I"
    assert table("1").columns == ("VOC20", "VOC21", "COCO Object", "PC59", "PC60", "A150", "A847", "PC459")
    with pytest.raises(DatasetError, match="no table '9'; there are: 1, 2, 3, 4, 5, 6, 7, 8, I, J"):
        table("9")


def test_rows_that_are_the_same_run_agree_between_tables() -> None:
    """What the paper prints twice is the same figure, and is measured by one run."""
    seen: dict[tuple[str, ...], str] = {}
    for name in titles():
        for cell in table(name).measurable:
            key = (cell.dataset, cell.split, cell.metric, cell.preset().checksum)
            if cell.paper:
                assert seen.setdefault(key, cell.paper) == cell.paper, (name, cell)
    assert len(seen) > 40


def test_every_peer_names_protocol_and_source() -> None:
    assert all(row["protocol"] and row["source"] and row["models"] for row in peers(["VOC21"]))
    assert {row["method"] for row in peers(["VOC20"])} >= {"Trident", "CorrCLIPv2", "FreeCP on SCLIP"}


def measure(parent: Path, name: str, changes: dict[str, str], images: int, of: int) -> Setup:
    """Keep results of `images` images, of which there are `of`: half of the cat is hit."""
    cell = cell_of("5", "eta 0.4, theta 0.6, lambda 0.4", "VOC21")
    dataset = Dataset(name, "val" if name == "voc" else "all", "labels", (), ("cat",))
    setup = replace(setup_of(dataset, Path("some/scenes"), cell.preset(changes), "demo"), images=of)
    run = Results(parent, setup)
    run.begin()
    for number in range(images):
        record = Record(f"{number:03}", 1.0, 0.5, ((0, 0, 5), (1, 1, 3), (1, 0, 3)))
        run.add(record, np.zeros((2, 2), np.uint16))
    return setup


def test_cells_hold_what_was_measured_and_nothing_else(tmp_path: Path) -> None:
    """IoU of the cat 3/6, of the background 5/8: 56.2 with background. Other settings and no image give no figure."""
    whole = measure(tmp_path, "voc", {}, 2, 2)
    measure(tmp_path, "folder", {}, 1, 3)
    measure(tmp_path, "voc", {"eta": "0.3"}, 0, 2)
    measured = [Measured.of(run) for run in runs(tmp_path)]
    default, eta, theta = table("5").cells[1], table("5").cells[0], table("5").cells[3]
    assert set(found(default, measured)) == {
        "56.2 (voc val, 2 images, weights demo)",
        "56.2 (folder scenes, 1 of 3 images, weights demo)",
    }
    assert found(eta, measured) == found(theta, measured) == []
    assert found(default, measured, {"theta": "0.12"}) == []
    assert quality(np.array([[5, 0], [3, 3]])).miou_with_background == pytest.approx(0.5625)
    assert Scheme("labels", ("cat",), True) == whole.scheme()
    text = markdown(table("5"), measured)
    assert text.count("56.2") == 2
    assert len([line for line in text.splitlines() if line.endswith("-    |")]) == 0


def test_printing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--table", "1"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# Table 1: Zero-shot semantic segmentation")
    line = next(line for line in text.splitlines() if line.startswith("| CaR  "))
    printed = [float(part) for part in line.split("|")[2:10]]
    assert printed == [91.4, 67.6, 36.6, 39.5, 30.5, 17.7, 8.1, 13.9]
    assert "CorrCLIPv2" in text
    here = text.split("Measured here")[1].splitlines()[4:]
    assert here
    assert all(line.split("|")[4].strip() == "-" for line in here)


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--table", "J", "--commands", "--root", "data", "--results", "r"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "python -m model evaluate voc20 --root data --results r",
        "python -m model evaluate context59 --root data --results r",
    ]
    assert main(["evaluate", "folder", "--table", "2", "--commands", "--weights", "demo", "--set", "theta=0.12"]) == 0
    first, *_ = capsys.readouterr().out.splitlines()
    options = "--preset voc --set theta=0.12 --set recurrence=none --root DIR --results RESULTS --weights demo"
    assert first == f"python -m model evaluate folder {options}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "9"], "no table '9'"),
        (["--table", "5", "--run"], "--run needs --root"),
        (["voc", "--table", "5", "--run", "--root", "."], "only `folder` can stand for them"),
        (["--table", "5", "--preset", "voc"], "leave out --preset"),
        (["folder"], "Name a data set and where its files are"),
        (["--root", "."], "Name a data set and where its files are"),
        (["lvis", "--root", "."], "no data set 'lvis'"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_rows_without_their_data_are_told_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--table", "J", "--run", "--root", str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert told.err.count("was not measured") == 2
    assert "Measured here" in told.out


@pytest.mark.slow
def test_rows_run_on_a_folder(studio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Table 2 on one shipped scene: three rows, each with its own figure; printing them again measures nothing."""
    base = ["--weights", "demo", "--set", "theta=0.12", "--set", "prompts=blur,gray", "--results", str(tmp_path)]
    arguments = ["evaluate", "folder", "--root", str(studio), "--table", "2", *base]
    assert main([*arguments, "--run", "--limit", "1"]) == 0
    text = capsys.readouterr().out
    assert text.count("(folder studio, 1 of 30 images, weights demo)") == 3
    assert main(["evaluate", "--table", "2", *base]) == 0
    assert capsys.readouterr().out == text
