from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from backend.app import create_app
from backend.corrections.comparison import compare
from backend.corrections.file import COMMON, TAKEN_AWAY, overlays, plot_days, plot_labels, plot_scores, write_html
from backend.corrections.proposals import Outcome, Proposal, keep
from backend.corrections.records import Change, Correction, Corrections
from backend.corrections.report import as_csv, as_json, as_text, bootstrap, report, wilson
from backend.settings import Settings
from backend.studio.client import StudioError
from tests.backend.corrections.shapes import box, square

DAY = 86_400.0


def correction(task: int, *changes: Change, day: int = 1, seconds: float | None = 10.0) -> Correction:
    moment = day * DAY + task
    return Correction(1, task, task, "car-demo-0123abcd-4567cdef", moment, seconds, (40, 30), changes, {"cat": 0.5})


UNTOUCHED = Change("cat", 100, 100, 100, 1.0)
HALF = Change("cat", 100, 50, 50, 0.6, ("M0 0L9 0L9 9Z", "M0 0L5 0L5 5Z"))
REMOVED = Change("<dog>", 80, 0, 0, 0.0, ("M1 1L9 1L9 9Z", ""))
THREE = (
    correction(1, UNTOUCHED, seconds=4),
    correction(2, HALF, REMOVED, day=2, seconds=60),
    correction(3, UNTOUCHED, day=2, seconds=None),
)


def test_three_corrections_summed_up() -> None:
    found = report(1, THREE)
    assert (found.annotations, found.tasks, found.seconds) == (3, 3, 32)
    assert found.accepted.value == pytest.approx(2 / 3)
    assert found.iou.value == pytest.approx((1 + 0.25 + 1) / 3)
    dog, cat = found.labels
    assert (cat.label, dog.label) == ("cat", "<dog>")
    assert cat.kinds == {"untouched": 2, "changed": 1, "added": 0, "removed": 0}
    assert cat.iou.value == pytest.approx(2.5 / 3)
    assert dog.kinds["removed"] == 1
    assert [(day.day, day.count, day.accepted) for day in found.days] == [
        ("1970-01-02", 1, 1.0),
        ("1970-01-03", 2, 0.5),
    ]
    assert [one.task for one in found.worst] == [2]


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(0, 10, 0, 0.278), (5, 10, 0.237, 0.763), (10, 10, 0.722, 1)],  # as in tables of Wilson's interval
)
def test_wilson(hits: int, count: int, low: float, high: float) -> None:
    found = wilson(hits, count)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-4)


@given(st.lists(st.floats(0, 1), min_size=5, max_size=30))
def test_bootstrap_intervals_hold_the_mean_or_touch_it(values: list[float]) -> None:
    found = bootstrap(values)
    assert found == bootstrap(values)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    assert found.value == pytest.approx(np.mean(values))


def test_few_values_leave_everything_possible() -> None:
    found = bootstrap([0.9, 0.9, 0.8])
    assert (found.value, found.low, found.high, found.count) == (pytest.approx(2.6 / 3), 0, 1, 3)


def test_bootstrap_covers_what_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = [found.low <= 0.75 <= found.high for found in (bootstrap(rng.beta(3, 1, 40).tolist()) for _ in range(200))]
    assert 0.88 <= np.mean(hits) <= 0.99


def test_csv_has_a_line_per_label() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(THREE))))
    assert [(row["task"], row["label"], row["what"], row["iou"]) for row in rows] == [
        ("1", "cat", "untouched", "1.0000"),
        ("2", "cat", "changed", "0.5000"),
        ("2", "<dog>", "removed", "0.0000"),
        ("3", "cat", "untouched", "1.0000"),
    ]
    assert rows[0]["submitted"] == "1970-01-02T00:00:01+00:00"
    assert (rows[0]["score"], rows[2]["score"], rows[3]["seconds"]) == ("0.500", "", "")


def test_json_and_text() -> None:
    found = report(1, THREE)
    assert json.loads(json.dumps(as_json(found)))["worst"] == [
        {"task": 2, "annotation": 2, "iou": 0.25, "labels": {"cat": "changed", "<dog>": "removed"}}
    ]
    assert "accepted as they were  67% (21%-94%)" in as_text(found)
    assert "--rebuild" in as_text(report(1, ()))


REASON = "a region of type 'polygonlabels' cannot be read: it has no value"
NOT_COMPARED = replace(correction(4, day=3, seconds=1000), not_compared=REASON, scores={"cat": 0.9})
EMPTY = correction(5, day=4, seconds=None)


def test_what_was_not_compared_is_counted_and_in_no_figure() -> None:
    found = report(1, (*THREE, NOT_COMPARED))
    assert found.not_compared == 1
    assert found.problems == (NOT_COMPARED,)
    assert replace(found, not_compared=0, problems=()) == report(1, THREE)
    told = json.loads(json.dumps(as_json(found)))
    assert told["not_compared"] == 1
    assert told["problems"] == [{"task": 4, "annotation": 4, "reason": REASON}]
    assert "not compared           1 (left out of all figures)" in as_text(found)
    assert f"task 4, annotation 4: {REASON}" in as_text(found)
    *_, last = csv.DictReader(io.StringIO(as_csv((*THREE, NOT_COMPARED))))
    assert (last["task"], last["label"], last["what"], last["iou"], last["reason"]) == (
        "4",
        "",
        "not compared",
        "",
        REASON,
    )


@pytest.mark.parametrize("corrections", [(), (NOT_COMPARED,)])
def test_figures_of_nothing_are_none(corrections: tuple[Correction, ...]) -> None:
    """The report once said: accepted as they were 100 %, mean IoU 1.000."""
    found = report(1, corrections)
    nothing = {"value": None, "low": None, "high": None, "count": 0}
    told = json.loads(json.dumps(as_json(found)))
    assert (told["accepted"], told["iou"], told["seconds"]) == (nothing, nothing, None)
    assert (found.annotations, found.labels, found.days, found.worst) == (0, (), (), ())
    if corrections:
        assert "accepted as they were  none\nmean IoU               none" in as_text(found)
    for text in (as_text(found), as_csv(corrections)):
        assert "100%" not in text
        assert "1.000" not in text


def test_an_empty_prediction_that_was_submitted_is_accepted_and_has_no_iou() -> None:
    found = report(1, (EMPTY,))
    assert (found.annotations, found.accepted.value, found.iou.value, found.days[0].iou) == (1, 1.0, None, None)
    assert found.worst == ()
    assert report(1, (*THREE, EMPTY)).iou == report(1, THREE).iou


def test_polygons_and_rectangles_by_hand() -> None:
    """Task 1 untouched, task 2 moved by half its side (1/3), task 3 deleted (0): (1 + 1/3 + 0) / 3, one of three."""
    results = {
        1: (square("cat", 10, 10), [square("cat", 10, 10)]),
        2: (box("cat", 10, 10, 10, 10), [box("cat", 10, 15, 10, 10)]),
        3: (square("cat", 10, 10), []),
    }
    corrections = [correction(task, *compare([before], after)[1]) for task, (before, after) in results.items()]
    found = report(1, corrections)
    assert (found.accepted.value, found.iou.value) == pytest.approx((1 / 3, 4 / 9))
    assert found.labels[0].kinds == {"untouched": 1, "changed": 1, "added": 0, "removed": 1}
    assert [one.task for one in found.worst] == [3, 2]


def test_plots_are_pictures() -> None:
    found = report(1, THREE)
    for plot in (plot_labels(found), plot_days(report(1, (*THREE, EMPTY))), plot_scores(THREE)):
        assert plot.startswith("data:image/svg+xml;base64,")


def test_overlays_show_what_was_taken_away() -> None:
    image = np.zeros((30, 40, 3), np.uint8)
    before, after = np.zeros((2, 30, 40), bool)
    before[10:20, 10:30] = after[10:20, 10:20] = True
    drawn = overlays(image, {"cat": before}, {"cat": after})
    assert drawn.shape == (30, 120, 3)
    shade = lambda colour: tuple(int(0.55 * value) for value in colour)  # noqa: E731
    assert tuple(drawn[15, 25]) == shade(COMMON), "predicted"
    assert tuple(drawn[15, 40 + 25]) == (0, 0, 0), "submitted without it"
    assert tuple(drawn[15, 80 + 15]) == shade(COMMON)
    assert tuple(drawn[15, 80 + 25]) == shade(TAKEN_AWAY)


@pytest.fixture
def client(redis: Redis, settings: Settings):  # type: ignore[no-untyped-def]
    corrections = Corrections(redis, settings)
    for one in THREE:
        corrections.replace(1, one.task, [one])
    return create_app(settings).test_client()


def test_the_page(client, redis: Redis) -> None:  # type: ignore[no-untyped-def]
    outcome = Outcome(20, 0.5, 0.6, 0.99, 0.1, 0.1)
    keep(redis, 1, "v", Proposal(True, "mIoU 0.500 -> 0.600", {"<dog>": 0.3}, 20, outcome, 0.2, 0.7))
    page = client.get("/corrections").get_data(as_text=True)
    assert "Corrections of project 1" in page
    assert "67 %" in page
    assert "http://studio.test:8080/projects/1/data?task=2" in page
    assert 'd="M0 0L5 0L5 5Z"' in page
    assert "&lt;dog&gt;" in page
    assert "<dog>" not in page
    assert "Start Training" in page


def test_the_page_says_what_was_not_compared(client, redis: Redis, settings: Settings) -> None:  # type: ignore[no-untyped-def]
    corrections = Corrections(redis, settings)
    for one in (NOT_COMPARED, EMPTY):
        corrections.replace(1, one.task, [one])
    page = client.get("/corrections?project=1").get_data(as_text=True)
    assert "<b>1</b>not compared, in no figure" in page
    assert "annotation 4: a region of type &#39;polygonlabels&#39; cannot be read" in page
    corrections.replace(2, 4, [NOT_COMPARED])
    page = client.get("/corrections?project=2").get_data(as_text=True)
    assert "<b>none</b>submitted as predicted" in page
    assert "<b>none</b>mean IoU" in page
    assert "100 %" not in page


class StudioIsAway:
    """Label Studio that answers nothing: the file is written without pictures."""

    def authorization(self) -> dict[str, str]:
        return {}

    def project(self, number: int) -> None:
        raise StudioError("away")


@pytest.mark.parametrize("corrections", [(NOT_COMPARED,), (*THREE, NOT_COMPARED, EMPTY)])
def test_the_file_says_what_was_not_compared(
    settings: Settings, tmp_path: Path, corrections: tuple[Correction, ...]
) -> None:
    found = report(1, corrections)
    write_html(tmp_path / "report.html", found, corrections, None, StudioIsAway(), settings)  # type: ignore[arg-type]
    text = (tmp_path / "report.html").read_text()
    assert "<b>1</b>not compared, in no figure" in text
    assert ("<b>none</b>mean IoU" in text) == (len(corrections) == 1)
    assert text.count('alt="Plot"') == (0 if len(corrections) == 1 else 3)


def test_the_page_of_a_project_without_corrections(client) -> None:  # type: ignore[no-untyped-def]
    assert "--rebuild" in client.get("/corrections?project=9").get_data(as_text=True)
    assert client.get("/corrections?project=x").status_code == 200


def test_the_page_is_behind_the_password(client, settings: Settings) -> None:  # type: ignore[no-untyped-def]
    closed = settings.model_copy(update={"basic_auth_user": "anna"})
    assert create_app(closed).test_client().get("/corrections").status_code == 401


def test_the_web_process_loads_no_numpy_for_it() -> None:
    code = "import sys, backend.app; sys.exit(bool({'numpy', 'matplotlib', 'cv2', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--project", "1", "--settings"), "go with --calibrate"),
        (("--project", "1", "--calibrate", "--miss-at-most", "0"), "between 0 and 100"),
        (("--folder", "x", "--apply"), "--folder goes with --calibrate"),
        (("--project", "1", "--calibrate", "--settings", "--miss-at-most", "5"), "leave out --settings"),
    ],
)
def test_what_does_not_go_together_is_said(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from backend.__main__ import main

    assert main(["corrections", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_command_reports(
    client,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],  # type: ignore[no-untyped-def]
) -> None:
    from backend.__main__ import main

    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    assert main(["corrections", "--project", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["annotations"], found["proposal"]) == (3, None)


def test_the_page_says_that_redis_is_away(settings: Settings) -> None:
    away = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    assert "Redis at REDIS_URL does not answer" in create_app(away).test_client().get("/corrections").text
