from pathlib import Path

import numpy as np
import pytest

from model.benchmarks.metrics import quality
from model.benchmarks.records import Record
from model.demo.__main__ import main
from model.demo.report import Counts, figure, share, table

RECORDS = [
    Record("a", 0.0, 0.0, ((0, 0, 10), (1, 1, 5), (1, 0, 5), (0, 2, 2))),
    Record("b", 0.0, 0.0, ((0, 0, 10), (2, 2, 4), (1, 1, 1))),
]


def test_miou_is_that_of_evaluate() -> None:
    matrix = np.zeros((4, 4), np.int64)
    for record in RECORDS:
        for truth, found, pixels in record.confusion:
            matrix[truth, found] += pixels
    counts = Counts.of(RECORDS, 3)
    assert counts.miou(np.ones((1, 2)))[0] == pytest.approx(quality(matrix).miou)
    assert counts.miou(np.array([[0, 1]]))[0] == pytest.approx(1)


def test_an_interval_holds_its_figure() -> None:
    right, asked = np.array([1.0, 3, 0, 2]), np.array([2.0, 3, 1, 2])
    made = figure(share(right, asked), 4)
    assert made.value == pytest.approx(6 / 8)
    assert made.low < made.value < made.high
    assert figure(share(asked, asked), 4) == figure(share(right, right), 4)
    assert "0.750" in table({"test": {"kept": made}})


def test_figures_of_nothing_are_none() -> None:
    nothing = Counts.of([Record("a", 0.0, None, ((0, 0, 10),))], 3)
    right, asked = np.zeros(4), np.zeros(4)
    for made in (figure(nothing.miou, 1), figure(share(right, asked), 4), figure(nothing.miou, 0)):
        assert (made.value, made.low, made.high, str(made)) == (None, None, None, "none")


def test_an_interval_is_over_resamples_that_measure_something() -> None:
    made = figure(share(np.array([1.0, 0]), np.array([1.0, 0])), 2)
    assert (made.value, made.low, made.high) == (1, 1, 1)


@pytest.mark.slow
def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", "tune", "--count", "1", "--out", str(tmp_path / "tune")]) == 0
    assert main(["report", str(tmp_path / "tune"), "--limit", "1", "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "mIoU, loop" in told
    assert "true mask named by circle" in told
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
