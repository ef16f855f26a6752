from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rq.serializers import JSONSerializer

from backend.bulk import run as bulk_module
from backend.bulk.progress import ProgressBar, watch
from backend.bulk.refresh import check_images, count_suspects, replace_old
from backend.bulk.run import NO_IMAGE, Bulk, BulkError, Plan, Progress, hindrance, make_plan, read_config
from backend.bulk.tally import LabelTally, as_text, tally
from backend.courier import Courier
from backend.local.ports import any_free_port
from backend.queue import queues
from backend.queue.cancel import cancel
from backend.queue.job import Job
from backend.queue.queues import TakingQueue
from backend.reconcile import Served
from backend.settings import Settings
from backend.studio.client import Studio, StudioUnavailable
from tests.backend.conftest import finished
from tests.load.bulk import play
from tests.load.shelf import Faults
from tests.load.stub_studio import CONFIG, HOST, PROJECT, TOKEN, StubStudio


class World:
    """A stub of Label Studio over HTTP, the courier, and quick workers: they find a cat in every third task."""

    def __init__(self, settings: Settings):
        self.stub = StubStudio(any_free_port())
        self.stub.back()
        changes = {"label_studio_url": f"http://{HOST}:{self.stub.port}"}
        token = Settings(label_studio_api_key=TOKEN).label_studio_api_key
        self.settings = settings.model_copy(update={**changes, "label_studio_api_key": token})
        self.studio = Studio(self.settings.label_studio_url, TOKEN, timeout=5)
        self.courier = Courier(self.settings, self.studio)
        self.jobs = self.courier.jobs
        self.computed: list[int] = []
        self.worked_off: list[str] = []

    def plan(self, unlabelled: bool = False) -> Plan:
        config = read_config(self.studio, PROJECT, self.settings)
        return make_plan(self.studio, PROJECT, config, config.version(), unlabelled)

    def run(self, limit: int = 10_000, window: int = 40, **options: Any) -> Bulk:
        """A run of at most so many steps, while workers and courier are at work."""
        bulk = Bulk(self.studio, self.jobs, self.plan(**options), window)
        for _ in range(limit):
            if not bulk.step():
                break
            assert len(self.jobs.open_ids()) <= window
            self.work()
            self.deliver()
        return bulk

    def take(self) -> Job | None:
        found = TakingQueue.dequeue_any(list(self.jobs.queues.values()), None, self.jobs.redis, None, JSONSerializer)
        if found is None:
            return None
        self.jobs.queues[found[1].name].intermediate_queue.remove(found[0].id)
        return Job.from_json(found[0].args[0])

    def work(self, fail: Callable[[Job], str] = lambda job: "") -> None:
        while job := self.take():
            if self.jobs.start(self.jobs.id_of(job)):
                self.computed.append(job.task)
                if reason := fail(job):
                    self.jobs.fail(self.jobs.id_of(job), reason)
                else:
                    found = ["cat"] if job.task % 3 == 0 else []
                    self.jobs.finish(self.jobs.id_of(job), self.prediction(job, *found), found)

    def prediction(self, job: Job, *labels: str) -> dict[str, Any]:
        made = finished(job.version, *labels, address=job.pictures[0].address)
        for region in made["result"]:
            region["score"] = 0.75
        return made

    def deliver(self) -> None:
        while self.courier.deliver():
            pass

    def stored(self) -> list[list[str]]:
        """The versions of each task's predictions."""
        return [[one["model_version"] for one in task.predictions.values()] for task in self.stub.shelf.tasks.values()]


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    made = World(settings)
    yield made
    made.stub.gone()


def test_every_task_gets_one_prediction_through_a_small_window(world: World) -> None:
    world.stub.shelf.add_tasks(250)
    bulk = world.run(window=40)
    assert bulk.progress == Progress(done=250)
    assert world.stored() == [[bulk.plan.version]] * 250
    assert sorted(world.computed) == list(range(1, 251))


@pytest.mark.parametrize("stops", [(1,), (2, 2), (1, 3, 1)])
def test_stopped_anywhere_and_started_again_each_task_is_done_once(world: World, stops: tuple[int, ...]) -> None:
    world.stub.shelf.add_tasks(230)
    for steps in stops:
        world.run(limit=steps)
    last = world.run()
    assert last.progress.done == last.plan.todo < 230
    assert world.stored() == [[last.plan.version]] * 230
    assert sorted(world.computed) == list(range(1, 231))
    assert world.plan().todo == 0


def test_the_limit_of_the_queue_is_kept_too(world: World) -> None:
    world.jobs.settings = world.settings.model_copy(update={"car_queue_limit": 10})
    world.stub.shelf.add_tasks(35)
    bulk = Bulk(world.studio, world.jobs, world.plan(), window=500)
    while bulk.step():
        assert len(world.jobs.open_ids()) <= 10
        world.work()
        world.deliver()
    assert bulk.progress.done == 35


def test_what_label_studio_has_is_skipped_and_what_was_deleted_comes_from_the_cache(world: World) -> None:
    world.stub.shelf.add_tasks(20)
    world.run()
    for number in (3, 4, 17):
        (prediction,) = world.studio.predictions(number)
        world.studio.delete_prediction(prediction["id"])
    assert (world.plan().total, world.plan().todo) == (20, 3)
    again = world.run()
    assert again.progress == Progress(done=3)
    assert len(world.computed) == 20, "nothing was computed twice"
    assert world.stored() == [[again.plan.version]] * 20


def test_labelled_tasks_may_be_left_out(world: World) -> None:
    world.stub.shelf.add_tasks(5)
    for number in (2, 5):
        world.stub.shelf.annotate(number, {"id": number, "result": []})
    bulk = world.run(unlabelled=True)
    assert (bulk.plan.total, bulk.plan.todo, bulk.progress.done) == (3, 3, 3)
    assert [len(versions) for versions in world.stored()] == [1, 0, 1, 1, 0]
    assert world.plan().todo == 2


def test_failures_are_counted_by_reason_and_the_rest_is_done(world: World) -> None:
    world.stub.shelf.add_tasks(10)
    bulk = Bulk(world.studio, world.jobs, world.plan())
    while bulk.step():
        world.work(lambda job: "it is no image" if job.task in (2, 3) else "404" if job.task == 9 else "")
        world.deliver()
    assert bulk.progress == Progress(done=7, failed=bulk.progress.failed)
    assert bulk.progress.failed == {"it is no image": 2, "404": 1}


def test_a_task_that_lacks_an_image_is_delivered_and_counted_with_its_reason(world: World) -> None:
    world.stub.shelf.add_tasks(2)
    bulk = Bulk(world.studio, world.jobs, world.plan())
    bulk.step()
    while job := world.take():
        job_id = world.jobs.id_of(job)
        world.jobs.start(job_id)
        world.jobs.finish(job_id, world.prediction(job, "cat"), ["cat"], "b: 404" if job.task == 1 else "")
    world.deliver()
    assert not bulk.step()
    assert bulk.progress == Progress(done=1, failed=bulk.progress.failed)
    assert bulk.progress.failed == {"b: 404": 1}
    assert [len(versions) for versions in world.stored()] == [1, 1]


def test_tasks_without_an_image_are_failures_too(world: World) -> None:
    world.stub.config = CONFIG.replace("$image", "$photo")
    world.stub.shelf.add_tasks(3)
    assert world.run().progress.failed == {NO_IMAGE: 3}


def test_a_task_that_is_deleted_meanwhile_holds_nothing_up(world: World) -> None:
    world.stub.shelf.add_tasks(5)
    bulk = Bulk(world.studio, world.jobs, world.plan())
    bulk.step()
    world.work()
    world.stub.shelf.delete_task(2)
    world.deliver()
    assert not bulk.step()
    assert bulk.progress.done == 5


def test_tasks_that_come_meanwhile_are_done_too(world: World) -> None:
    world.stub.shelf.add_tasks(100)
    bulk = Bulk(world.studio, world.jobs, world.plan(), window=10)
    bulk.step()
    world.stub.shelf.add_tasks(7)
    while bulk.step():
        world.work()
        world.deliver()
    assert bulk.progress.done == 107


def test_when_the_config_changes_nothing_more_is_asked_for(world: World) -> None:
    world.stub.shelf.add_tasks(300)
    bulk = Bulk(world.studio, world.jobs, world.plan(), window=120)
    bulk.step()
    world.stub.config = CONFIG.replace("moai", "sphinx")
    world.courier.cancel_outdated(PROJECT)
    assert not bulk.step()
    assert bulk.progress.cancelled == 120
    assert world.stored() == [[]] * 300


def test_without_the_webhook_the_run_sees_the_change_itself(world: World) -> None:
    world.stub.shelf.add_tasks(300)
    bulk = Bulk(world.studio, world.jobs, world.plan(), window=120)
    bulk.step()
    world.stub.config = CONFIG.replace("moai", "sphinx")
    while bulk.step():
        world.work()
        world.deliver()
    assert bulk.outdated
    assert bulk.progress.done <= 200, "the pages that were read before"


def test_cancelling_the_project_ends_the_run(world: World) -> None:
    world.stub.shelf.add_tasks(300)
    bulk = Bulk(world.studio, world.jobs, world.plan(), window=120)
    bulk.step()
    cancel(world.jobs, PROJECT)
    assert not bulk.step()
    assert (bulk.progress.cancelled, bulk.walked, world.jobs.open_ids()) == (120, False, [])


def test_label_studio_may_be_away_for_a_while(world: World) -> None:
    world.stub.shelf.add_tasks(150)
    bulk = Bulk(world.studio, world.jobs, world.plan(), window=60)
    bulk.step()
    world.work()
    world.deliver()
    world.stub.faults = Faults(errors=1.0)
    with pytest.raises(StudioUnavailable):
        bulk.step()
    assert (bulk.progress.done, bulk.progress.queued) == (60, 40), "what was read before is asked for all the same"
    world.stub.faults = Faults()
    while bulk.step():
        world.deliver()
        world.work()
    assert bulk.progress.done == 150
    assert world.stored() == [[bulk.plan.version]] * 150


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("<View/>", "no <Image>"),
        (CONFIG.replace("<BrushLabels", '<BrushLabels model_skip="true"'), "model_skip"),
    ],
)
def test_a_project_that_cannot_be_prelabelled_says_why(world: World, config: str, words: str) -> None:
    world.stub.config = config
    with pytest.raises(BulkError, match=words):
        read_config(world.studio, PROJECT, world.settings)
    with pytest.raises(BulkError, match="no project 99"):
        read_config(world.studio, 99, world.settings)


def test_what_hinders_is_named_with_what_to_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no worker" in hindrance(world.jobs, 1)
    monkeypatch.setattr(bulk_module, "workers", lambda jobs: 1)
    assert "no courier" in hindrance(world.jobs, 1)
    world.courier.round()
    assert hindrance(world.jobs, 1) == ""
    queues.pause(world.jobs.redis, 1)
    assert "paused" in hindrance(world.jobs, 1)
    assert hindrance(world.jobs, 2) == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_counts_what_was_there_before_but_not_for_the_rate(world: World) -> None:
    plan = Plan(1, world.plan().config, "v", total=100, todo=40, which=world.plan().which)
    screen = Terminal()
    with ProgressBar(plan, screen) as bar:
        time.sleep(0.2)
        progress = Progress(done=8, queued=20, running=2)
        progress.failed.update(["404", "404"])
        bar.show(progress, "no worker is alive")
        bar.show(progress, "no worker is alive")
        shown = bar.bar.format_dict
        assert (shown["n"], shown["total"], shown["initial"]) == (70, 100, 60)
        text = screen.getvalue()
        elapsed = shown["elapsed"]
        assert "70/100" in text
        assert "failed=2, queued=20, running=2, delivering=0" in text
        assert text.count("no worker is alive") == 1
        rate = 10 / elapsed
        line = bar.bar.format_meter(**{**shown, "ncols": None})
        assert f"{rate:.2f}task/s" in line or f"{1 / rate:.2f}s/task" in line
        bar.show(progress, seen=38)
        assert bar.bar.total == 98, "two tasks were deleted meanwhile"


def test_into_a_file_only_a_line_now_and_then() -> None:
    file = io.StringIO()
    plan = Plan(1, None, "v", total=10, todo=10, which=None)  # type: ignore[arg-type]
    with ProgressBar(plan, file) as bar:
        before = file.getvalue().count("\r")
        for number in range(10):
            bar.show(Progress(done=number))
        assert file.getvalue().count("\r") == before
    assert "9/10" in file.getvalue(), "the last state is there"


def test_watching_waits_for_label_studio_and_tells_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.bulk.progress.POLL_SECONDS", 0.02)
    world.stub.shelf.add_tasks(30)
    bulk = Bulk(world.studio, world.jobs, world.plan())
    world.studio.session = Studio(world.settings.label_studio_url, TOKEN, timeout=0.3).session
    screen, stop, over = Terminal(), threading.Event(), []
    world.stub.gone()
    thread = threading.Thread(target=lambda: over.append(watch(bulk, ProgressBar(bulk.plan, screen), stop)))
    thread.start()
    until(lambda: "Label Studio does not answer" in screen.getvalue())
    world.stub.back()
    while thread.is_alive():
        world.work()
        world.deliver()
    assert over == [True]
    assert "30/30" in screen.getvalue()


def test_watching_can_be_stopped(world: World) -> None:
    world.stub.shelf.add_tasks(3)
    bulk, stop = Bulk(world.studio, world.jobs, world.plan()), threading.Event()
    threading.Timer(0.3, stop.set).start()
    assert not watch(bulk, ProgressBar(bulk.plan, io.StringIO()), stop)
    assert len(world.jobs.open_ids()) == 3, "what was asked for stays asked for"


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_summary_counts_labels_scores_and_reasons(world: World) -> None:
    world.stub.shelf.add_tasks(10)
    bulk = Bulk(world.studio, world.jobs, world.plan())
    while bulk.step():
        world.work(lambda job: "404" if job.task == 10 else "")
        world.deliver()
    found = tally(world.jobs, PROJECT, bulk.plan.version, ["cat", "dog", "moai"])
    assert (found.done, found.empty, found.failed) == (9, 6, {"404": 1})
    assert found.labels == (LabelTally("cat", 3, 0.75), LabelTally("dog", 0, None), LabelTally("moai", 0, None))
    assert found.seconds is not None
    assert as_text(found).splitlines() == [
        "label    found in         mean score",
        "cat           3 ( 33.3 %)        0.75",
        "dog           0 (  0.0 %)",
        "moai          0 (  0.0 %)",
        "nothing       6 ( 66.7 %)",
    ]
    assert tally(world.jobs, PROJECT, "another", ["cat"]).done == 0
    assert tally(world.jobs, 11, bulk.plan.version, ["cat"]).done == 0


def test_masks_of_images_that_were_replaced_make_room_and_their_tasks_are_done_anew(world: World) -> None:
    world.stub.shelf.add_tasks(9)
    version = world.run().plan.version
    for number in (3, 4):
        world.stub.shelf.change_image(number)
    project = Served(PROJECT, world.plan().config, version)
    assert world.plan().todo == 0, "Label Studio has a prediction of this version everywhere"
    assert count_suspects(world.courier.reconciler, project) == 2
    assert sum(check_images(world.courier.reconciler, project)) == 9
    assert world.plan().todo == 2
    assert world.run().progress.done == 2
    assert world.stored() == [[version]] * 9
    assert count_suspects(world.courier.reconciler, project) == 0


OLD, OTHERS = "car-demo-00000000-00000000", "yolo-car-v8"


def test_older_ones_of_ours_go_once_the_new_one_is_there(world: World) -> None:
    world.stub.shelf.add_tasks(4)
    empty = {"result": [], "score": 0.0}
    for number in (1, 2, 3):
        world.studio.create_prediction(number, {**empty, "model_version": OLD})
        world.studio.create_prediction(number, {**empty, "model_version": OTHERS})
    world.studio.create_prediction(2, {**empty, "model_version": OLD})
    parent = world.studio.predictions(3)[0]["id"]
    world.stub.shelf.annotate(3, {"id": 1, "result": [], "parent_prediction": parent})
    version = world.plan().version
    assert sum(replace_old(world.studio, PROJECT, version)) == 0, "nothing new is there yet"
    world.run()
    assert sum(replace_old(world.studio, PROJECT, version)) == 3
    assert sum(replace_old(world.studio, PROJECT, version)) == 0
    assert [sorted(versions) for versions in world.stored()] == [
        sorted([version, OTHERS]),
        sorted([version, OTHERS]),
        sorted([version, OTHERS, OLD]),  # an annotation began with it
        [version],
    ]


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_killed_twice_and_resumed_each_task_is_done_once_and_the_bar_is_right() -> None:
    """The same with 2,000 tasks: `python -m tests.load.bulk`."""
    said: list[str] = []
    result = play(tasks=120, workers=2, kills=2, latency=0.05, window=15, say=said.append)
    assert (result["delivered"], result["lost"], result["doubled"], result["exit_code"]) == (120, 0, 0, 0), said
    assert result["untrue"] == []
    assert result["bar_ended_at"] == [120, 120]
    assert 0 < result["last_run"]["done"] == result["last_run"]["todo"] < 120
    assert result["tally"]["done"] == 120
