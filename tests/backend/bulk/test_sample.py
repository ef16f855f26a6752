from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend import store
from backend.__main__ import main
from backend.bulk import sample
from backend.bulk.run import BulkError
from backend.bulk.sample import Estimate, Trial, estimate, estimate_text
from backend.bulk.sample_page import labels_of, overlay, page
from backend.bulk.tally import as_text, count
from backend.corrections.records import ScoreBook
from backend.images.fetcher import ImageUnavailable
from backend.labeling.parsing import parse_config, pictures
from backend.local.services import ROOT
from backend.masks import brush
from backend.queue import queues
from backend.queue.job import Job
from backend.settings import Settings
from model.palette import colors
from tests.backend.bulk.test_run import World
from tests.backend.conftest import one_image
from tests.load.stub_studio import CONFIG, PROJECT, TOKEN

CAT = np.zeros((4, 6), bool)
CAT[1:3, 2:5] = True


class DrawingWorld(World):
    """Its workers draw the cat; scores of the others are noted as the real worker notes them."""

    def prediction(self, job: Job, *labels: str) -> dict[str, Any]:
        scores = {"cat": 0.75 if labels else 0.2, "dog": 0.1, "moai": 0.0}
        ScoreBook(self.jobs.redis, self.settings).note(job.project, job.task, job.version, job.fingerprint, scores)
        mask = np.zeros((222, 295), bool)
        mask[50:100, 50:150] = True
        regions = [brush.region(mask, label, "mask", "image", 0.75, label) for label in labels]
        return {"result": regions, "score": 0.75 if regions else 0.0, "model_version": job.version}


@pytest.fixture
def world(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[DrawingWorld]:
    """With workers and a courier at work in a thread, and its settings in the environment."""
    made = DrawingWorld(settings)
    monkeypatch.setenv("LABEL_STUDIO_URL", made.settings.label_studio_url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    monkeypatch.setenv("REDIS_URL", made.settings.redis_url)
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.02):
            made.work()
            made.deliver()

    thread = threading.Thread(target=work)
    thread.start()
    yield made
    over.set()
    thread.join()
    made.stub.gone()


def test_a_sample_is_spread_over_the_project_and_stored_nowhere(
    world: DrawingWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    world.stub.shelf.add_tasks(90)
    assert main(["prelabel", "--project", "1", "--sample", "3"]) == 0
    assert world.computed == [16, 46, 76]
    out = capsys.readouterr().out
    assert "Tried, and stored nowhere" in out
    assert "90 tasks at 0.0 s each" in out
    assert world.stored() == [[]] * 90
    assert world.jobs.redis.zcard(store.OUTBOX) == 0


def test_what_was_tried_is_not_taken_for_done(world: DrawingWorld) -> None:
    world.stub.shelf.add_tasks(3)
    main(["prelabel", "--project", "1", "--sample", "3"])
    assert main(["prelabel", "--project", "1"]) == 0
    assert world.stored() == [[world.plan().version]] * 3


def test_other_words_are_tried_by_a_version_of_their_own(
    world: DrawingWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.stub.shelf.add_tasks(2)
    (tmp_path / "prompts.json").write_text('{"a tabby, asleep": "cat"}')
    html = tmp_path / "sample.html"
    options = ["--sample", "2", "--ontology", str(tmp_path / "prompts.json"), "--threshold", "moai=0.45"]
    assert main(["prelabel", "--project", "1", *options, "--html", str(html)]) == 0
    out = capsys.readouterr().out
    assert "cat: a tabby, asleep" in out
    assert "moai: moai, from 0.45 on" in out
    assert world.plan().version not in out
    assert "a tabby, asleep" in html.read_text()
    assert world.stub.config == CONFIG, "nothing is changed by trying"


def test_the_page_shows_masks_scores_and_what_was_dropped(world: DrawingWorld, tmp_path: Path) -> None:
    world.stub.shelf.add_tasks(3)
    html = tmp_path / "sample.html"
    assert main(["prelabel", "--project", "1", "--sample", "3", "--html", str(html)]) == 0
    text = html.read_text()
    assert text.count("data:image/jpeg;base64,") == 3
    assert "1 of 3" in text, "the cat, in task 3"
    assert "cat 0.75" in text
    assert text.count("cat 0.20") == 2, "dropped, with the score that did not suffice"
    assert "<script" not in text


def test_the_page_may_be_printed(world: DrawingWorld, capsys: pytest.CaptureFixture[str]) -> None:
    world.stub.shelf.add_tasks(2)
    assert main(["prelabel", "--project", "1", "--sample", "2", "--html", "-"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("<!doctype html>")
    assert told.out.rstrip().endswith("</html>")
    assert "Tried, and stored nowhere" in told.err


def test_a_task_that_cannot_be_segmented_is_named(
    world: DrawingWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    world.stub.shelf.add_tasks(3)
    monkeypatch.setattr(world, "work", lambda: World.work(world, lambda job: "404: gone" if job.task == 2 else ""))
    html = tmp_path / "sample.html"
    assert main(["prelabel", "--project", "1", "--sample", "3", "--html", str(html)]) == 1
    assert "1 x 404: gone" in capsys.readouterr().out
    assert "404: gone" in html.read_text()


def test_a_project_without_images_cannot_be_tried(world: DrawingWorld, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prelabel", "--project", "1", "--sample", "3"]) == 2
    assert "No task of project 1 has an image" in capsys.readouterr().err


def test_no_room_is_told(world: DrawingWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.stub.shelf.add_tasks(3)
    queues.pause(world.jobs.redis)
    world.jobs.settings = world.settings.model_copy(update={"car_queue_limit": 1})
    with pytest.raises(BulkError, match="CAR_QUEUE_LIMIT"):
        sample.ask(world.jobs, sample.choose(world.studio, world.plan(), 3))


def trial(*labels: str, seconds: float | None = 2.0, **scores: float) -> Trial:
    config = parse_config(CONFIG, "demo")
    regions = [brush.region(CAT, label, "mask", "image", 0.9, label) for label in labels]
    job = Job(1, 7, one_image("/a.png"), config, config.version(), trial=True)
    return Trial(job, {"result": regions}, seconds=seconds, scores=scores, stored_bytes=2000, kept_bytes=500)


def test_the_estimate_is_of_what_was_finished() -> None:
    failed = Trial(trial().job, None, "404")
    found = estimate([trial(seconds=1.0), trial(seconds=3.0), failed], tasks=3600, workers=2)
    assert found == Estimate(3600, 2, 2.0, 3600.0, 7_200_000, 1_800_000)
    assert estimate_text(found) == (
        "3600 tasks at 2.0 s each take 60 min with 2 workers, about 7.2 MB in Label Studio's database and "
        "1.8 MB in Redis."
    )
    assert estimate([failed], 10, 1) is None


def test_no_time_is_told_where_none_is_known() -> None:
    found = estimate([trial(seconds=None)], tasks=3600, workers=2)
    assert found is not None
    assert (found.seconds_each, found.seconds) == (None, None)
    assert estimate_text(found).startswith("3600 tasks take about")


def test_shares_and_means_of_no_task_are_none() -> None:
    found = count([], ["cat"])
    assert json.loads(json.dumps(found.to_json()))["labels"] == [{"label": "cat", "tasks": 0, "mean_score": None}]
    assert as_text(found).splitlines() == [
        "label    found in         mean score",
        "cat           0 (   none)",
        "nothing       0 (   none)",
    ]


def test_each_label_is_shown_with_the_score_that_decided() -> None:
    shown = labels_of(trial("cat", cat=0.9, dog=0.3), colors(4))
    assert [(one.label, one.score, one.kept) for one in shown] == [
        ("cat", 0.9, True),
        ("dog", 0.3, False),
        ("moai", None, False),
    ]
    assert len({one.color for one in shown}) == 3


def test_polygons_are_shown_too_and_each_control_may_store_another_name() -> None:
    xml = CONFIG.replace("BrushLabels", "PolygonLabels").replace(
        "</View>", '<BrushLabels name="b" toName="image"><Label value="cat" alias="felis"/></BrushLabels></View>'
    )
    config = parse_config(xml, "demo")
    points = [[0, 0], [50, 0], [50, 100], [0, 100]]
    common = {"original_width": 6, "original_height": 4, "to_name": "image", "score": 0.8, "type": "polygonlabels"}
    polygon = {**common, "from_name": "mask", "value": {"points": points, "polygonlabels": ["cat"], "closed": True}}
    stroke = brush.region(CAT, "felis", "b", "image", 0.8, "x")
    shown = Trial(Job(1, 7, one_image("/a.png"), config, "v"), {"result": [polygon, stroke]})
    assert [(one.label, one.kept) for one in labels_of(shown, colors(4))] == [
        ("cat", True),
        ("dog", False),
        ("moai", False),
    ]
    tally = sample.tally_of([shown], config)
    html = page("x", config, [shown], tally, None, lambda url, task: np.zeros((4, 6, 3), np.uint8))
    assert "data:image/jpeg" in html
    html = page("x", config, [shown], tally, None, lambda url, task: np.zeros((5, 6, 3), np.uint8))
    assert "another size" in html


def test_every_image_of_a_task_is_shown() -> None:
    xml = CONFIG.replace(
        "</View>",
        '<Image name="b" value="$b"/><BrushLabels name="x" toName="b"><Label value="fox"/></BrushLabels></View>',
    )
    config = parse_config(xml, "demo")
    result = [brush.region(CAT, "cat", "mask", "image", 0.8, "1"), brush.region(CAT, "fox", "x", "b", 0.8, "2")]
    asked = pictures(config, {"image": "/a.png", "b": "/b.png"})
    shown = Trial(Job(1, 7, asked, config, "v"), {"result": result})

    def fetch(url: str, task: int) -> Any:
        if url == "/a.png":
            raise ImageUnavailable("no answer")
        return np.zeros((4, 6, 3), np.uint8)

    html = page("x", config, [shown], sample.tally_of([shown], config), None, fetch)
    assert (html.count("data:image/jpeg"), html.count("no answer")) == (1, 1)
    assert [(one.label, one.kept) for one in labels_of(shown, colors(5))][-1] == ("fox", True)


def test_an_overlay_tints_the_mask_and_nothing_else() -> None:
    image = np.full((4, 6, 3), 100, np.uint8)
    palette = np.array([[0, 0, 0], [200, 100, 0]], np.uint8)
    drawn = overlay(image, {1: CAT}, palette)
    assert (drawn[~CAT] == 100).all()
    assert (drawn[CAT] == [155, 100, 45]).all(), "55 % of the colour, 45 % of the image"
    assert overlay(np.zeros((1300, 400, 3), np.uint8), {}, palette).shape == (434, 134, 3)


def test_whatever_people_wrote_is_shown_as_text() -> None:
    name = "<b>bold</b> & co"
    config = parse_config(CONFIG.replace("cat", "&lt;b>bold&lt;/b> &amp; co"), "demo")

    def away(url: str, task: int) -> Any:
        raise ImageUnavailable(f"no answer for {name}")

    shown = Trial(Job(1, 7, one_image("/a.png"), config, "v"), {"result": []})
    html = page(name, config, [shown], sample.tally_of([shown], config), None, away)
    assert "<b>" not in html
    assert "The image cannot be shown: no answer for &lt;b&gt;bold&lt;/b&gt; &amp; co" in html


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--html", "x.html"], "say --sample 20"),
        (["--html", "nowhere/x.html", "--sample", "2"], "no folder nowhere"),
        (["--threshold", "cat=0.5"], "--write-config puts them there"),
        (["--ontology", "nowhere.json", "--sample", "2"], "nowhere.json"),
        (["--threshold", "cat", "--sample", "2"], "Kettle=0.4"),
        (["--threshold", "lion=0.5", "--dry-run"], "no label 'lion'"),
        (["--write-config"], "goes with --ontology or --threshold"),
        (["--write-config", "--threshold", "cat=0.5", "--dry-run"], "without --sample or --dry-run"),
        (["--refresh", "--sample", "2"], "change nothing"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    world: DrawingWorld, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.stub.shelf.add_tasks(3)
    assert main(["prelabel", "--project", "1", *options]) == 2
    assert words in capsys.readouterr().err
    assert (world.stored(), world.computed, world.stub.config) == ([[]] * 3, [], CONFIG)


def test_a_dry_run_tells_and_does_nothing(world: DrawingWorld, capsys: pytest.CaptureFixture[str]) -> None:
    world.stub.shelf.add_tasks(3)
    assert main(["prelabel", "--project", "1", "--dry-run", "--threshold", "cat=0.5", "--json"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "3 of 3 tasks would be asked for" in out[0]
    assert out[1] == "  cat: cat, from 0.5 on"
    assert json.loads(out[-1])["todo"] == 3
    assert world.computed == []


def test_written_into_the_config_they_are_what_everybody_sees(
    world: DrawingWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.stub.shelf.add_tasks(4)
    assert main(["prelabel", "--project", "1"]) == 0
    before = world.plan().version
    (tmp_path / "prompts.json").write_text('{"a tabby": "cat"}')
    options = ["--ontology", str(tmp_path / "prompts.json"), "--threshold", "cat=0.5", "--write-config", "--refresh"]
    assert main(["prelabel", "--project", "1", *options, "--json"]) == 0
    assert '<Label value="cat" car_prompt="a tabby" model_score_threshold="0.5" />' in world.stub.config
    after = world.plan().version
    assert before != after
    assert world.stored() == [[after]] * 4
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["done"], told["replaced"], told["finished"], told["version"]) == (4, 4, True, after)


def test_failures_and_how_to_mend_them_end_the_run(
    world: DrawingWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.stub.shelf.add_tasks(3)
    monkeypatch.setattr(world, "work", lambda: World.work(world, lambda job: "404: gone" if job.task == 2 else ""))
    assert main(["prelabel", "--project", "1", "--window", "2"]) == 1
    out = capsys.readouterr().out
    assert "2 tasks now, 0 before, of 3" in out
    assert "requeue --project 1" in out
    assert "1 x 404: gone" in out


@pytest.mark.parametrize("away", [True, False], ids=["Label Studio is away", "no labels"])
def test_what_cannot_begin_says_why(world: DrawingWorld, away: bool, capsys: pytest.CaptureFixture[str]) -> None:
    world.stub.config = "<View/>"
    if away:
        world.stub.gone()
    assert main(["prelabel", "--project", str(PROJECT)]) == 2
    error = capsys.readouterr().err
    assert (str(world.stub.port) if away else "no <Image>") in error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_ends_in_order_and_can_go_on(
    world: DrawingWorld, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    world.stub.shelf.add_tasks(3)
    queues.pause(world.jobs.redis, PROJECT)
    threading.Timer(1.0, signal.raise_signal, [number]).start()
    assert main(["prelabel", "--project", "1", "--json"]) == 1
    told = capsys.readouterr()
    assert "paused: nothing is begun until `python -m backend resume --project 1`" in told.err
    assert "Stopped. What is queued is still done; to go on: python -m backend prelabel --project 1" in told.out
    assert json.loads(told.out.splitlines()[-1])["finished"] is False
    queues.resume(world.jobs.redis, PROJECT)
    assert main(["prelabel", "--project", "1"]) == 0
    assert world.stored() == [[world.plan().version]] * 3


def test_the_command_needs_no_torch() -> None:
    code = "import sys; import backend.commands.prelabel; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
