from __future__ import annotations

import base64
import io
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from redis import Redis
from rq.exceptions import DequeueTimeout
from rq.serializers import JSONSerializer

from backend import failing, store, worker
from backend.failing import VersionMismatch
from backend.interactive.asks import Ask
from backend.labeling.parsing import Picture, parse_config, pictures
from backend.masks import brush
from backend.queue.jobs import ASKED_SECONDS, Job, Jobs, SegmentJob, State
from backend.settings import Settings
from backend.studio.client import StudioError, StudioUnavailable
from backend.worker import Engine, GPUWorker, TakingQueue
from model.memory import Memory, Strength, digest, write
from model.presets import preset
from model.segmenter import Segmenter
from tests.backend.conftest import one_image
from tests.backend.refusing import WAYS
from tests.conftest import RedisProcess

SCENES = Path(__file__).parents[2] / "model" / "demo" / "scenes" / "studio"
NAMES = (SCENES / "classes.txt").read_text().splitlines()
ASKED = ("umbrella", "castle", "coca cola logo", "giraffe", "guitar")
"""The first three are in scene 006, the others are not."""
LABELS = "".join(f'<Label value="{name}"/>' for name in ASKED)
XML = f'<View><Image name="image" value="$image"/><BrushLabels name="mask" toName="image">{LABELS}</BrushLabels></View>'


def data_uri(image: Image.Image, kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


@pytest.fixture(scope="module")
def loaded() -> dict[str, Segmenter]:
    """Weights are loaded once for all tests here."""
    return {}


@pytest.fixture
def engine(settings: Settings, loaded: dict[str, Segmenter], monkeypatch: pytest.MonkeyPatch) -> Engine:
    own = Engine(settings)
    monkeypatch.setattr(own, "_segmenters", loaded)
    monkeypatch.setattr(worker, "engine", lambda: own)
    return own


@pytest.fixture
def scene_job() -> Job:
    config = parse_config(XML, "demo")
    image = Image.open(SCENES / "images" / "006.png")
    return Job(1, 7, one_image(data_uri(image)), config, config.version())


def work_off(engine: Engine) -> None:
    queues = [TakingQueue(name, connection=engine.redis, serializer=JSONSerializer) for name in store.QUEUES]
    GPUWorker(queues, connection=engine.redis, serializer=JSONSerializer).work(burst=True, logging_level="CRITICAL")


def test_a_scene_becomes_brush_regions(engine: Engine, scene_job: Job) -> None:
    engine.jobs.request(scene_job, store.BATCH)
    work_off(engine)
    prediction = engine.jobs.result(engine.jobs.id_of(scene_job))
    assert prediction is not None
    assert prediction["model_version"] == scene_job.version
    truth = np.asarray(Image.open(SCENES / "masks" / "006.png"))
    assert prediction["result"]
    for region in prediction["result"]:
        assert (region["from_name"], region["to_name"], region["type"]) == ("mask", "image", "brushlabels")
        assert 0 < region["score"] <= 1
        (label,) = region["value"]["brushlabels"]
        mask = brush.decode(region["value"]["rle"], *truth.shape) > 0
        wanted = truth == 1 + NAMES.index(label)
        assert (mask & wanted).sum() / (mask | wanted).sum() > 0.3, label
    assert prediction["score"] == pytest.approx(np.mean([region["score"] for region in prediction["result"]]))


def test_the_alias_is_what_is_stored(engine: Engine, scene_job: Job) -> None:
    (asked,) = scene_job.config.images
    (control,) = asked.controls
    aliases = tuple((value, f"id-{value}") for value, _ in control.names)
    config = replace(scene_job.config, images=(replace(asked, controls=(replace(control, names=aliases),)),))
    outcome = engine.predict(replace(scene_job, config=config, version=config.version()))
    stored = [region["value"]["brushlabels"][0] for region in outcome.prediction["result"]]
    assert stored == [f"id-{label}" for label in outcome.found]
    assert stored


def test_no_label_in_the_image_is_a_final_empty_prediction(engine: Engine, scene_job: Job) -> None:
    plain = replace(scene_job, pictures=one_image(data_uri(Image.new("RGB", (320, 240), (90, 120, 200)))))
    engine.jobs.request(plain, store.BATCH)
    work_off(engine)
    assert engine.jobs.result(engine.jobs.id_of(plain)) == {"result": [], "score": 0.0, "model_version": plain.version}


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("data:image/png;base64,AAAA", "image"),
        ("ftp://somewhere/a.png", "ftp"),
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254"),
    ],
)
def test_a_bad_image_fails_alone_at_once_and_says_why(engine: Engine, scene_job: Job, image: str, words: str) -> None:
    bad = replace(scene_job, task=8, pictures=one_image(image))
    for job in (bad, scene_job):
        engine.jobs.request(job, store.BATCH)
    work_off(engine)
    assert engine.jobs.state(engine.jobs.id_of(bad)) is State.FAILED
    assert words in engine.jobs.ticket(engine.jobs.id_of(bad))["error"]
    assert engine.jobs.state(engine.jobs.id_of(scene_job)) is State.DONE


TWO = f"""<View><Image name="left" value="$a"/><Image name="right" value="$b"/>
  <BrushLabels name="mask" toName="left">{LABELS}</BrushLabels>
  <BrushLabels name="logo" toName="right"><Label value="umbrella"/><Label value="castle" alias="head"/></BrushLabels>
  <RectangleLabels name="box" toName="right"><Label value="castle" alias="head"/></RectangleLabels></View>"""


@pytest.fixture
def pair_job() -> Job:
    """A task with two images of different size: the scene, and the scene with a margin."""
    config = parse_config(TWO, "demo")
    scene = Image.open(SCENES / "images" / "006.png").convert("RGB")
    wider = Image.new("RGB", (480, 360), (90, 120, 200))
    wider.paste(scene)
    pictures = (Picture("left", data_uri(scene)), Picture("right", data_uri(wider)))
    return Job(1, 7, pictures, config, config.version())


def placed(prediction: dict[str, Any] | None) -> set[tuple[str, str, str]]:
    result = prediction["result"] if prediction else []
    return {(one["to_name"], one["from_name"], one["value"][one["type"]][0]) for one in result}


def test_all_images_of_a_task_come_in_one_prediction(engine: Engine, pair_job: Job) -> None:
    engine.jobs.request(pair_job, store.BATCH)
    work_off(engine)
    job_id = engine.jobs.id_of(pair_job)
    prediction = engine.jobs.result(job_id)
    assert placed(prediction) >= {("left", "mask", "castle"), ("right", "logo", "head"), ("right", "box", "head")}
    assert prediction is not None
    sizes = {one["to_name"]: (one["original_width"], one["original_height"]) for one in prediction["result"]}
    assert sizes == {"left": (384, 320), "right": (480, 360)}
    assert len({one["id"] for one in prediction["result"]}) == len(prediction["result"])
    scores = engine.scores.scores(1, 7, pair_job.version, pair_job.fingerprint)
    assert set(scores) == set(ASKED) | {"head"}
    assert scores["head"] > 0.5
    assert engine.jobs.ticket(job_id).keys() & {"error", "kind"} == set()


@pytest.mark.parametrize("gone", [0, 1])
def test_one_image_that_cannot_be_read_does_not_take_the_others_along(engine: Engine, pair_job: Job, gone: int) -> None:
    pictures = [*pair_job.pictures]
    pictures[gone] = replace(pictures[gone], address="ftp://somewhere/a.png")
    broken = replace(pair_job, pictures=tuple(pictures))
    engine.jobs.request(broken, store.BATCH)
    work_off(engine)
    job_id = engine.jobs.id_of(broken)
    assert engine.jobs.state(job_id) is State.DONE
    assert {tag for tag, _, _ in placed(engine.jobs.result(job_id))} == {pictures[1 - gone].tag}
    ((listed, ticket),) = engine.jobs.failures()
    assert listed == job_id
    assert ticket["error"].startswith(f"1 of 2 images are missing in the prediction: {pictures[gone].tag}: ftp:")
    assert ticket["kind"] == "image"
    assert engine.redis.zscore(store.OUTBOX, job_id) is not None, "the others are delivered"


def test_a_task_none_of_whose_images_can_be_read_fails(engine: Engine, pair_job: Job) -> None:
    gone = tuple(replace(one, address="ftp://somewhere/a.png") for one in pair_job.pictures)
    broken = replace(pair_job, pictures=gone)
    engine.jobs.request(broken, store.BATCH)
    work_off(engine)
    assert engine.jobs.state(engine.jobs.id_of(broken)) is State.FAILED
    assert engine.jobs.result(engine.jobs.id_of(broken)) is None


def test_an_image_that_may_come_back_is_waited_for_before_it_is_left_out(
    engine: Engine, pair_job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, tries = engine.fetcher.fetch, []

    def unreachable(url: str, task_id: int) -> Any:
        if url != pair_job.pictures[1].address:
            return fetch(url, task_id)
        tries.append(url)
        raise failing.ImageUnavailable("the host is restarting")

    monkeypatch.setattr(engine.fetcher, "fetch", unreachable)
    monkeypatch.setattr(engine, "studio_is_away", lambda: False)
    engine.jobs.request(pair_job, store.BATCH)
    work_off(engine)
    job_id = engine.jobs.id_of(pair_job)
    assert len(tries) == 1 + engine.settings.car_retries
    assert {tag for tag, _, _ in placed(engine.jobs.result(job_id))} == {"left"}
    assert "right: the host is restarting" in engine.jobs.ticket(job_id)["error"]

    monkeypatch.setattr(engine.fetcher, "fetch", fetch)
    assert engine.jobs.requeue(job_id)
    assert engine.jobs.ticket(job_id)["replaces"] == "1"
    work_off(engine)
    assert {tag for tag, _, _ in placed(engine.jobs.result(job_id))} == {"left", "right"}
    assert "error" not in engine.jobs.ticket(job_id)
    assert list(engine.jobs.failures()) == []


def test_the_pages_of_an_image_are_segmented_one_by_one(engine: Engine, scene_job: Job) -> None:
    config = parse_config(XML.replace("value=", "valueList=", 1), "demo")
    plain = data_uri(Image.new("RGB", (320, 240), (90, 120, 200)))
    pages = [plain, scene_job.pictures[0].address]
    outcome = engine.predict(Job(1, 7, pictures(config, {"image": pages}), config, config.version()))
    assert outcome.prediction["result"]
    assert {one["item_index"] for one in outcome.prediction["result"]} == {1}


def test_one_image_is_in_memory_at_a_time(engine: Engine, scene_job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    segment, kept = engine._segment, list[Any]()

    def watched(job: Job, picture: Picture) -> Any:
        assert [masks for masks in kept if masks() is not None] == []
        found = segment(job, picture)
        kept.append(weakref.ref(found))
        return found

    monkeypatch.setattr(engine, "_segment", watched)
    pages = tuple(replace(scene_job.pictures[0], page=page) for page in range(3))
    assert {one["item_index"] for one in engine.predict(replace(scene_job, pictures=pages)).prediction["result"]} == {
        0,
        1,
        2,
    }
    assert len(kept) == 3


def test_a_task_with_too_many_images_says_so(engine: Engine, scene_job: Job) -> None:
    pages = tuple(Picture("image", "/a.png", page) for page in range(21))
    many = replace(scene_job, pictures=pages)
    engine.jobs.request(many, store.BATCH)
    work_off(engine)
    ticket = engine.jobs.ticket(engine.jobs.id_of(many))
    assert (ticket["state"], ticket["kind"]) == ("failed", "image")
    assert "21 images, more than CAR_TASK_IMAGES (20)" in ticket["error"]


def test_what_may_pass_is_tried_again_then_given_up(
    engine: Engine, scene_job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def unreachable(url: str, task_id: int) -> Any:
        tries.append(url)
        raise failing.ImageUnavailable("Label Studio is restarting")

    monkeypatch.setattr(engine.fetcher, "fetch", unreachable)
    monkeypatch.setattr(engine, "studio_is_away", lambda: False)
    engine.jobs.request(scene_job, store.BATCH)
    work_off(engine)
    assert len(tries) == 1 + engine.settings.car_retries
    ticket = engine.jobs.ticket(engine.jobs.id_of(scene_job))
    assert (ticket["state"], ticket["error"]) == ("failed", "Label Studio is restarting")


def test_what_passed_is_done(engine: Engine, scene_job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch, tries = engine.fetcher.fetch, []

    def restarting(url: str, task_id: int) -> Any:
        tries.append(url)
        if len(tries) < 3:
            raise failing.ImageUnavailable("Label Studio is restarting")
        return fetch(url, task_id)

    monkeypatch.setattr(engine.fetcher, "fetch", restarting)
    monkeypatch.setattr(engine, "studio_is_away", lambda: False)
    engine.jobs.request(scene_job, store.BATCH)
    work_off(engine)
    ticket = engine.jobs.ticket(engine.jobs.id_of(scene_job))
    assert ticket["state"] == "done"
    assert "error" not in ticket


@pytest.mark.parametrize(
    ("raised", "away"),
    [(StudioUnavailable("refused"), True), (StudioError("401"), False), (None, False)],
    ids=["no answer", "a refusal", "an answer"],
)
def test_label_studio_is_away_when_it_answers_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, raised: Exception | None, away: bool
) -> None:
    def user() -> dict[str, Any]:
        if raised is not None:
            raise raised
        return {"id": 1}

    monkeypatch.setattr(engine.studio, "user", user)
    assert engine.studio_is_away() is away


def test_while_label_studio_is_away_nothing_costs_a_try(
    engine: Engine, scene_job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, answers = engine.fetcher.fetch, iter([True] * (engine.settings.car_retries + 5))
    away = False

    def fetch_if_there(url: str, task_id: int) -> Any:
        nonlocal away
        away = next(answers, False)
        if away:
            raise failing.ImageUnavailable("the connection to localhost broke")
        return fetch(url, task_id)

    monkeypatch.setattr(engine.fetcher, "fetch", fetch_if_there)
    monkeypatch.setattr(engine, "studio_is_away", lambda: away)
    engine.jobs.request(scene_job, store.BATCH)
    work_off(engine)
    assert engine.jobs.state(engine.jobs.id_of(scene_job)) is State.DONE


@pytest.mark.parametrize("words", ["CUDA error: an illegal memory access was encountered", "CUDA error: unspecified"])
def test_a_worker_whose_gpu_keeps_failing_ends_and_leaves_the_rest(
    engine: Engine, scene_job: Job, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    def fail(job: Job) -> Any:
        raise RuntimeError(words)

    monkeypatch.setattr(engine, "predict", fail)
    for number in range(5):
        engine.jobs.request(replace(scene_job, task=number), store.BATCH)
    with pytest.raises(SystemExit, match="GPU failed"):
        worker.work(engine.settings, burst=True)
    states = [engine.jobs.ticket(job_id)["state"] for job_id in engine.jobs.open_ids()]
    assert states == ["queued"] * 5, "what failed is tried again, what was not begun still waits"


def test_other_errors_in_between_are_not_counted(
    engine: Engine, scene_job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter([RuntimeError("CUDA error: x"), RuntimeError("CUDA error: x"), OSError("disk")] * 2)

    def fail(job: Job) -> Any:
        raise next(errors)

    monkeypatch.setattr(engine, "predict", fail)
    for number in range(6):
        engine.jobs.request(replace(scene_job, task=number), store.BATCH)
    for _ in range(6):
        found = TakingQueue.dequeue_any(taking_queues(engine.redis), None, engine.redis, serializer=JSONSerializer)
        assert found is not None
        with pytest.raises((RuntimeError, OSError)):
            worker.segment(*found[0].args)
    assert engine.device_errors == 0


def test_out_of_memory_is_tried_again_then_fails_alone(
    engine: Engine, scene_job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its tries other images fit, so the GPU is not broken and the worker goes on."""
    small, predict, tries = replace(scene_job, task=8), engine.predict, []

    def full(job: Job) -> Any:
        if job.task == 8:
            return predict(job)
        tries.append(job.task)
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(engine, "predict", full)
    monkeypatch.setattr(worker, "DEVICE_ERRORS", 1 + engine.settings.car_retries + 1)
    engine.jobs.request(scene_job, store.BATCH)
    work_off(engine)
    engine.jobs.request(small, store.BATCH)
    work_off(engine)
    assert len(tries) == 1 + engine.settings.car_retries
    assert engine.jobs.ticket(engine.jobs.id_of(scene_job))["error"] == "OutOfMemoryError: CUDA out of memory."
    assert engine.jobs.state(engine.jobs.id_of(small)) is State.DONE
    assert engine.device_errors == 0


def test_nothing_is_forked_and_weights_are_loaded_once(
    engine: Engine, scene_job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    class Counted(Segmenter):
        def __init__(self, *args: Any) -> None:
            loaded.append(args[0].checksum)
            super().__init__(*args)

    monkeypatch.setattr(worker, "Segmenter", Counted)
    monkeypatch.setattr(engine, "_segmenters", {})
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("CUDA does not survive a fork"))
    for number in range(3):
        engine.jobs.request(replace(scene_job, task=number), store.BATCH)
    work_off(engine)
    assert [str(engine.jobs.state(engine.jobs.id_of(replace(scene_job, task=n)))) for n in range(3)] == ["done"] * 3
    assert len(loaded) == 1


def test_what_rq_keeps_of_a_job_is_small_and_short_lived(engine: Engine, scene_job: Job) -> None:
    engine.jobs.request(scene_job, store.BATCH)
    rq_job = SegmentJob.fetch(engine.jobs.id_of(scene_job), engine.redis, JSONSerializer)
    assert rq_job.timeout == engine.settings.car_job_timeout
    work_off(engine)
    rq_job.refresh()
    assert len(rq_job.return_value()) < 200
    assert 0 < engine.redis.ttl(rq_job.key) <= 60


def test_a_worker_is_believed_dead_after_a_minute_and_cleans_up_nothing_itself() -> None:
    assert worker.DEAD_AFTER_SECONDS == GPUWorker.get_heartbeat_ttl(None, None) == 60  # type: ignore[arg-type]
    assert worker.HEARTBEAT_SECONDS * 3 < worker.DEAD_AFTER_SECONDS
    assert "run_maintenance_tasks" in vars(GPUWorker)


def test_a_job_of_another_release_is_refused_aloud(engine: Engine, scene_job: Job) -> None:
    engine.jobs.request(replace(scene_job, version="car-demo-00000000-00000000"), store.BATCH)
    work_off(engine)
    ((_, ticket),) = engine.jobs.failures()
    assert "same release" in ticket["error"]


def test_a_finished_job_that_comes_again_is_not_computed_again(
    engine: Engine, scene_job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.jobs.request(scene_job, store.BATCH)
    work_off(engine)
    before = engine.jobs.result(engine.jobs.id_of(scene_job))
    monkeypatch.setattr(engine, "predict", lambda job: pytest.fail("computed twice"))
    engine.jobs.enqueue(engine.jobs.id_of(scene_job), scene_job, store.BATCH)
    work_off(engine)
    assert engine.jobs.result(engine.jobs.id_of(scene_job)) == before


def taking_queues(redis: Redis) -> list[TakingQueue]:
    return [TakingQueue(name, connection=redis, serializer=JSONSerializer) for name in store.QUEUES]


def test_interactive_goes_before_batch(jobs: Jobs, job: Job, redis: Redis) -> None:
    for number, queue in ((1, store.BATCH), (2, store.BATCH), (3, store.INTERACTIVE)):
        jobs.request(replace(job, task=number), queue)
    taken = []
    for _ in range(3):
        found = TakingQueue.dequeue_any(taking_queues(redis), None, redis, serializer=JSONSerializer)
        assert found is not None
        taken.append((found[0].description, found[1].name))
    assert [text.split()[1] for text, _ in taken] == ["3", "1", "2"]
    assert [name for _, name in taken] == ["interactive", "batch", "batch"]


def test_a_taken_job_is_always_in_some_list(jobs: Jobs, job: Job, redis: Redis) -> None:
    jobs.request(job, store.BATCH)
    TakingQueue.dequeue_any(taking_queues(redis), None, redis, serializer=JSONSerializer)
    assert jobs.queues[store.BATCH].intermediate_queue.get_job_ids() == [jobs.id_of(job)]


def test_started_it_leaves_that_list(engine: Engine, scene_job: Job) -> None:
    engine.jobs.request(scene_job, store.BATCH)
    work_off(engine)
    assert engine.jobs.queues[store.BATCH].intermediate_queue.get_job_ids() == []


def test_an_empty_queue_times_out_or_answers_none(redis: Redis) -> None:
    assert TakingQueue.dequeue_any(taking_queues(redis), None, redis, serializer=JSONSerializer) is None
    with pytest.raises(DequeueTimeout):
        TakingQueue.dequeue_any(taking_queues(redis), 1, redis, serializer=JSONSerializer)


def test_an_id_without_a_job_is_passed_over(jobs: Jobs, job: Job, redis: Redis) -> None:
    jobs.queues[store.BATCH].push_job_id("p1-t1-vanished")
    jobs.request(job, store.BATCH)
    found = TakingQueue.dequeue_any(taking_queues(redis), None, redis, serializer=JSONSerializer)
    assert found is not None
    assert found[0].id == jobs.id_of(job)
    assert jobs.queues[store.BATCH].intermediate_queue.get_job_ids() == [jobs.id_of(job)]


def test_without_its_weights_a_worker_says_which_file_goes_where(redis_url: str, tmp_path: Path) -> None:
    env = {**os.environ, "REDIS_URL": redis_url, "CAR_WEIGHTS": str(tmp_path)}
    command = [sys.executable, "-m", "backend", "worker", "--burst"]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert "open_clip_config.json" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("code", list(WAYS))
def test_a_job_whose_end_redis_does_not_take_for_long_is_put_back_and_costs_no_try(
    own_redis: RedisProcess,
    settings: Settings,
    loaded: dict[str, Segmenter],
    scene_job: Job,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
) -> None:
    own = Engine(settings.model_copy(update={"redis_url": own_redis.url}))
    monkeypatch.setattr(own, "_segmenters", loaded)
    monkeypatch.setattr(worker, "engine", lambda: own)
    monkeypatch.setattr(worker, "KEEP_SECONDS", 0.5)
    refuse, accept = WAYS[code]
    predict, tries = own.predict, []

    def refused_after_the_first(job: Job) -> Any:
        outcome = predict(job)
        tries.append(job.task)
        if len(tries) == 1:
            refuse(own.redis)
            threading.Timer(3, lambda: accept(own.redis)).start()
        return outcome

    monkeypatch.setattr(own, "predict", refused_after_the_first)
    own.jobs.request(scene_job, store.BATCH)
    job_id = own.jobs.id_of(scene_job)
    work_off(own)
    assert tries == [7, 7]
    assert own.jobs.state(job_id) is State.DONE
    rq_job = SegmentJob.fetch(job_id, own.redis, JSONSerializer)
    assert (rq_job.get_status(), rq_job.retries_left) == ("finished", own.settings.car_retries)
    queue = own.jobs.queues[store.BATCH]
    assert queue.started_job_registry.get_job_ids(cleanup=False) == []
    assert queue.intermediate_queue.get_job_ids() == []


def test_a_job_that_was_taken_but_not_begun_is_put_back(engine: Engine, scene_job: Job) -> None:
    engine.jobs.request(scene_job, store.BATCH)
    queues = [TakingQueue(name, connection=engine.redis, serializer=JSONSerializer) for name in store.QUEUES]
    own = GPUWorker(queues, connection=engine.redis, serializer=JSONSerializer)
    own.register_birth()
    found = own.dequeue_job_and_maintain_ttl(None)
    assert found is not None
    own.put_back(*found)
    assert engine.jobs.queues[store.BATCH].get_job_ids() == [engine.jobs.id_of(scene_job)]
    assert engine.jobs.queues[store.BATCH].intermediate_queue.get_job_ids() == []


@pytest.mark.slow
def test_told_to_stop_a_worker_finishes_its_image_and_leaves_the_rest(
    jobs: Jobs, scene_job: Job, redis_url: str
) -> None:
    waiting = [replace(scene_job, task=number) for number in range(3)]
    for one in waiting:
        jobs.request(one, store.BATCH)
    env = {**os.environ, "REDIS_URL": redis_url, "LABEL_STUDIO_URL": jobs.settings.label_studio_url}
    process = subprocess.Popen([sys.executable, "-m", "backend", "worker"], env=env)
    try:
        states: list[str] = []
        until = time.monotonic() + 120
        while "running" not in states and time.monotonic() < until:
            time.sleep(0.01)
            states = [str(jobs.state(jobs.id_of(one))) for one in waiting]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
    states = sorted(str(jobs.state(jobs.id_of(one))) for one in waiting)
    assert states in (["done", "queued", "queued"], ["done", "done", "queued"])
    assert jobs.queues[store.BATCH].intermediate_queue.get_job_ids() == []


@pytest.mark.slow
def test_told_twice_a_worker_drops_its_image_which_costs_no_try(jobs: Jobs, scene_job: Job, redis_url: str) -> None:
    jobs.request(scene_job, store.BATCH)
    job_id = jobs.id_of(scene_job)
    env = {**os.environ, "REDIS_URL": redis_url, "LABEL_STUDIO_URL": jobs.settings.label_studio_url}
    # Eight seconds for the image that warms it up, and eight for each after that.
    process = subprocess.Popen([sys.executable, "-m", "tests.load.null_worker", "--latency", "8"], env=env)
    try:
        until = time.monotonic() + 60
        while jobs.state(job_id) is not State.RUNNING and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        time.sleep(1.5)
        assert process.poll() is None, "the first lets it finish its image"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
    ticket = jobs.ticket(job_id)
    assert (ticket["state"], ticket["error"]) == ("queued", "the worker was told to stop at once")
    assert SegmentJob.fetch(job_id, jobs.redis, JSONSerializer).retries_left == jobs.settings.car_retries


def test_a_memory_that_is_missing_here_is_refused_aloud_until_it_comes(
    engine: Engine, scene_job: Job, tmp_path: Path
) -> None:
    engine.settings = engine.settings.model_copy(update={"car_memory": str(tmp_path)})
    plain = engine.segmenter(scene_job.config.model_preset(scene_job.config.images[0]))
    scored, drawn = plain.looks(np.asarray(Image.open(SCENES / "images" / "006.png").convert("RGB")), [])
    origin = plain.towers.origin(plain.preset)
    empty = Memory(origin, Strength(1, 0.5, 0.7), (), np.zeros(0, np.int64), scored, drawn)
    checksum = digest(empty.to_bytes())
    config = parse_config(XML.replace("<BrushLabels", f'<BrushLabels car_memory="logos#{checksum}"'), "demo")
    job = replace(scene_job, config=config, version=config.version())
    engine.jobs.request(job, store.BATCH)
    work_off(engine)
    ((_, ticket),) = engine.jobs.failures()
    assert "logos.safetensors cannot be read" in ticket["error"]
    assert "CAR_MEMORY" in ticket["error"]
    assert ticket["kind"] == "release"
    (tmp_path / "logos.safetensors").write_bytes(b"of another project")
    with pytest.raises(VersionMismatch, match=f"{checksum} is asked for"):
        engine.predict(job)
    write(empty, tmp_path / "logos.safetensors")
    assert engine.predict(job).found == engine.predict(scene_job).found


def test_other_settings_of_a_project_load_no_weights_again(engine: Engine, scene_job: Job) -> None:
    first = engine.segmenter(preset("demo"))
    other = engine.segmenter(preset("demo", {"eta": "0.6"}))
    assert other.preset.eta == 0.6
    assert other._classifier is first._classifier
    assert engine.segmenter(preset("demo")).preset == first.preset


def test_a_question_is_answered_and_nothing_else(engine: Engine, scene_job: Job) -> None:
    asked = replace(scene_job, ask=Ask("image", None, "castle", "the castle", text="the castle"))
    engine.jobs.request(asked, store.INTERACTIVE)
    work_off(engine)
    job_id = engine.jobs.id_of(asked)
    found = engine.jobs.result(job_id)
    assert found is not None
    (region,) = found["result"]
    assert region["value"]["brushlabels"] == ["castle"]
    assert 0 < engine.redis.ttl(store.result_key(job_id)) <= ASKED_SECONDS
    assert engine.redis.zcard(store.OUTBOX) == 0
    assert engine.jobs.state(engine.jobs.id_of(scene_job)) is None
    assert not engine.redis.keys("car:scores:*")
    assert not engine.redis.keys("car:minute:*"), "it is no image that was pre-labelled"


def test_a_reserved_worker_leaves_the_batch_alone(engine: Engine, settings: Settings, scene_job: Job) -> None:
    opened = replace(scene_job, task=8)
    engine.jobs.request(scene_job, store.BATCH)
    engine.jobs.request(opened, store.INTERACTIVE)
    worker.work(settings, burst=True, only=store.INTERACTIVE)
    assert engine.jobs.state(engine.jobs.id_of(opened)) is State.DONE
    assert engine.jobs.state(engine.jobs.id_of(scene_job)) is State.QUEUED
