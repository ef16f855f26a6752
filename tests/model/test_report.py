import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from model.__main__ import main
from model.benchmarks import charts
from model.benchmarks.plans import Plan
from model.benchmarks.report import write
from model.benchmarks.results import Results
from model.presets import preset
from model.segmenter import Segmenter


@pytest.fixture
def run(studio: Path, tmp_path: Path, segmenter_of: Callable[..., Segmenter]) -> Results:
    plan = Plan("folder", studio, preset("demo"), limit=2)
    return plan.measure(tmp_path / "results", lambda: segmenter_of(), quiet=True)[0]


def test_a_page_stands_alone(run: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two images: one is the worst and one the best, each with what was found and what is there."""
    assert main(["report", str(tmp_path / "results")]) == 0
    target = Path(capsys.readouterr().out.strip())
    assert target == run.folder / "report.html"
    page = target.read_text()
    assert "<h1>folder studio, preset demo</h1>" in page
    assert "2 of 30 images" in page
    assert page.count("data:image/jpeg;base64,") == 6
    assert page.count("<svg") == 3
    assert "statue of liberty" in page
    assert "background_power" in page
    assert not re.search(r'(src|href)="(?!data:)', page.replace('xlink:href="#', ""))
    assert "<script" not in page
    bare = re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)
    for tag in ("figure", "table", "ul", "p", "h2"):
        assert len(re.findall(rf"<{tag}\b", bare)) == bare.count(f"</{tag}>")


def test_images_without_a_figure_are_neither_best_nor_worst(run: Results, tmp_path: Path) -> None:
    for record in run.records().values():
        run.add(replace(record, iou=None, confusion=(), findings=(), present=0), run.mask(record.name))
    write(run, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<li>mIoU<b>none</b></li>" in page
    assert "<figure" not in page


def test_images_that_are_gone_are_told(run: Results, tmp_path: Path) -> None:
    moved = Results(tmp_path / "other", replace(run.setup, root=str(tmp_path / "nowhere")))
    moved.begin()
    for name, record in run.records().items():
        moved.add(record, run.mask(name))
    write(moved, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "The images are not shown" in page
    assert "<svg" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nowhere"], "nowhere holds no results"), (["."], "holds no results")],
)
def test_wrong_folders(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *[str(tmp_path / argument) for argument in arguments]]) == 2
    assert message in capsys.readouterr().err


def test_charts_name_what_they_show() -> None:
    bars = charts.bars({"cat": 0.25, "dog <&>": 0.5, "a very long label that would not fit beside its bar": 1.0}, "IoU")
    assert [
        text for text in ("cat", "dog &lt;&amp;&gt;", "a very long label that would n...", "0.25") if text not in bars
    ] == []
    assert bars.index(">cat<") < bars.index("dog ")
    assert charts.histogram([0.1, 0.1, 1.0], "IoU").startswith("<svg")
    row = {"low": 0.0, "high": 0.1, "count": 1, "score": 0.05, "present": 1.0, "drawn": 0.0}
    assert "label is in the image" in charts.reliability([row])
