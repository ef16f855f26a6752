from __future__ import annotations

import json
import re
import struct
import time
import zlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from redis import Redis

from backend import store
from backend.corrections.corrector import Corrector, prediction_of, scores_of
from backend.corrections.records import REASON, Change, Correction, Corrections, Kind, ScoreBook, is_ours
from backend.masks import brush
from backend.queue.job import Job
from backend.settings import Settings
from tests.backend.conftest import MemoryStudio
from tests.backend.corrections.shapes import box, square

OURS = "car-demo-0123abcd-4567cdef"
IMAGE, OTHER_IMAGE = "89abcdef", "01234567"
"""Fingerprints of two jobs."""
NOON = "2026-11-20T12:00:00.000000Z"
LATER = "2026-11-20T12:05:00.000000Z"


def region(label: str, pixels: int) -> dict[str, Any]:
    mask = np.arange(100).reshape(10, 10) < pixels
    return {**brush.region(mask, label, "mask", "image", 0.75, "id")}


def prediction(number: int, *regions: dict[str, Any], version: str = OURS, at: str = NOON) -> dict[str, Any]:
    return {"id": number, "model_version": version, "created_at": at, "result": list(regions)}


def annotation(number: int, *regions: dict[str, Any], **fields: Any) -> dict[str, Any]:
    usual = {"created_at": LATER, "updated_at": LATER, "lead_time": 12.5, "was_cancelled": False}
    return {"id": number, "result": list(regions), "parent_prediction": None, **usual, **fields}


@pytest.fixture
def studio() -> MemoryStudio:
    studio = MemoryStudio([7])
    studio.stored[7] = [prediction(1, region("cat", 50), region("dog", 10))]
    studio.annotated[7] = [annotation(3, region("cat", 40), parent_prediction=1)]
    return studio


@pytest.fixture
def corrector(redis: Redis, settings: Settings, studio: MemoryStudio) -> Corrector:
    return Corrector(redis, settings, studio)  # type: ignore[arg-type]


def event(action: str, task: int = 7, **more: Any) -> Mapping[str, Any]:
    return {"action": action, "annotation": {"id": 3, "task": task}, "project": {"id": 1}, **more}


def work_off(corrector: Corrector) -> None:
    while corrector.round():
        pass


def kept(corrector: Corrector) -> list[Correction]:
    return corrector.corrections.newest(1)


def test_a_submitted_annotation_is_compared_with_what_was_predicted(corrector: Corrector, job: Job) -> None:
    corrector.scores.note(1, 7, OURS, job.fingerprint, {"cat": 0.75, "dog": 0.25, "moai": 0.0625})
    corrector.hear(event("ANNOTATION_CREATED"))
    work_off(corrector)
    (found,) = kept(corrector)
    assert {change.label: (change.kind, change.iou) for change in found.changes} == {
        "cat": (Kind.CHANGED, 0.8),
        "dog": (Kind.REMOVED, 0.0),
    }
    assert (found.task, found.annotation, found.version, found.seconds) == (7, 3, OURS, 12.5)
    assert (found.size, found.fingerprint) == ((10, 10), job.fingerprint)
    assert found.scores == {"cat": 0.75, "dog": 0.25, "moai": 0.0625}, "moai was dropped and nobody saw it"
    assert found.iou == pytest.approx(0.4)
    assert not found.accepted


def test_the_same_webhook_twice_counts_once(corrector: Corrector, studio: MemoryStudio) -> None:
    for _ in range(2):
        corrector.hear(event("ANNOTATION_CREATED"))
    work_off(corrector)
    assert studio.calls.count("whole tasks") == 1
    corrector.hear(event("ANNOTATION_CREATED"))
    work_off(corrector)
    assert len(kept(corrector)) == 1


def test_an_updated_annotation_replaces_its_record(corrector: Corrector, studio: MemoryStudio) -> None:
    corrector.hear(event("ANNOTATION_CREATED"))
    work_off(corrector)
    studio.annotated[7] = [annotation(3, region("cat", 50), region("dog", 10), parent_prediction=1)]
    corrector.hear(event("ANNOTATION_UPDATED"))
    work_off(corrector)
    (found,) = kept(corrector)
    assert found.accepted
    assert found.iou == 1


def test_a_deleted_annotation_is_forgotten(corrector: Corrector, studio: MemoryStudio, redis: Redis) -> None:
    corrector.hear(event("ANNOTATION_CREATED"))
    work_off(corrector)
    studio.annotated[7] = []
    corrector.hear({"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 3}, {"id": 99}], "project": {"id": 1}})
    work_off(corrector)
    assert kept(corrector) == []
    assert [redis.exists(key(1)) for key in (store.corrections_key, store.corrected_key, store.annotations_key)] == [
        0,
        0,
        0,
    ]


def test_a_deleted_task_is_forgotten(corrector: Corrector, studio: MemoryStudio) -> None:
    corrector.hear(event("ANNOTATION_CREATED"))
    work_off(corrector)
    studio.delete(7)
    corrector.hear({"action": "TASKS_DELETED", "tasks": [{"id": 7}], "project": {"id": 1}})
    work_off(corrector)
    assert kept(corrector) == []


def test_many_at_once(corrector: Corrector, studio: MemoryStudio) -> None:
    studio.show(8, "/data/upload/1/8.png")
    studio.stored[8] = [prediction(2, region("cat", 50))]
    studio.annotated[8] = [annotation(4, region("cat", 50)), annotation(5, region("cat", 25))]
    corrector.hear(
        {
            "action": "ANNOTATIONS_CREATED",
            "annotation": [{"id": 3, "task": 7}, {"id": 4, "task": 8}],
            "project": {"id": 1},
        }
    )
    work_off(corrector)
    assert [(one.task, one.annotation) for one in kept(corrector)] == [(7, 3), (8, 4), (8, 5)]


@pytest.mark.parametrize(
    "made",
    [
        annotation(3, was_cancelled=True, parent_prediction=1),
        annotation(3, parent_prediction=2),  # somebody else's
        annotation(3, created_at="2026-11-20T11:59:00Z"),  # older than the prediction
    ],
)
def test_what_there_is_nothing_to_compare_with_does_not_count(
    corrector: Corrector, studio: MemoryStudio, made: dict[str, Any]
) -> None:
    studio.stored[7].append(prediction(2, region("cat", 50), version="another-model"))
    studio.annotated[7] = [made]
    assert corrector.compare_task(1, 7) == 0
    assert kept(corrector) == []


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"original_width": 3}, "different size"),
        ({"value": None}, "no value"),
        ({"original_width": 10**6, "original_height": 10**6}, "more than the"),
        ({"value": {"brushlabels": ["cat"], "rle": [1, 2]}}, "brush RLE begins with"),
        ({"value": {"brushlabels": ["cat" * 500]}, "type": "x" * 500}, "none of the shapes|a region of type"),
    ],
)
def test_what_cannot_be_compared_is_counted_with_the_reason(
    corrector: Corrector,
    studio: MemoryStudio,
    caplog: pytest.LogCaptureFixture,
    broken: dict[str, Any],
    reason: str,
) -> None:
    other = annotation(4, region("cat", 50), region("dog", 10), parent_prediction=1)
    studio.annotated[7] = [annotation(3, {**region("cat", 5), **broken}, parent_prediction=1, lead_time=1e400), other]
    assert corrector.compare_task(1, 7) == 1, "the other one"
    found = {one.annotation: one for one in kept(corrector)}
    assert re.search(reason, found[3].not_compared)
    assert len(found[3].not_compared) <= REASON
    assert (found[3].accepted, found[3].iou, found[3].changes, found[3].seconds) == (None, None, (), None)
    assert (found[4].accepted, found[4].iou, found[4].not_compared) == (True, 1.0, "")
    assert "annotation 3 of task 7 is not compared" in caplog.text


@pytest.mark.parametrize("result", [None, 5, {"a": 1}, "cat", [5], [None], [[]]])
def test_a_result_that_is_none_stops_nothing(corrector: Corrector, studio: MemoryStudio, result: object) -> None:
    studio.annotated[7] = [{**annotation(3, parent_prediction=1), "result": result}]
    assert corrector.compare_task(1, 7) == (result is None)
    (found,) = kept(corrector)
    assert bool(found.not_compared) == (result is not None)


def test_an_empty_prediction_that_was_submitted_is_accepted_and_has_no_iou(
    corrector: Corrector, studio: MemoryStudio
) -> None:
    studio.stored[7] = [prediction(1)]
    studio.annotated[7] = [annotation(3, parent_prediction=1)]
    assert corrector.compare_task(1, 7) == 1
    (found,) = kept(corrector)
    assert (found.accepted, found.iou, found.not_compared) == (True, None, "")


def test_polygons_and_rectangles_are_compared(corrector: Corrector, studio: MemoryStudio) -> None:
    """By hand: a cat moved by half its side has 50 of 150 pixels, a dog twice as high 100 of 200, the moai is gone."""
    predicted = [square("cat", 10, 10), box("dog", 50, 10, 10, 10), square("moai", 30, 30)]
    submitted = [square("cat", 15, 10), box("dog", 50, 10, 10, 20)]
    studio.stored[7] = [prediction(1, *(one | {"score": 0.5} for one in predicted))]
    studio.annotated[7] = [annotation(3, *submitted, parent_prediction=1)]
    assert corrector.compare_task(1, 7) == 1
    (found,) = kept(corrector)
    assert {change.label: change.kind for change in found.changes} == {
        "cat": Kind.CHANGED,
        "dog": Kind.CHANGED,
        "moai": Kind.REMOVED,
    }
    ious = {change.label: change.iou for change in found.changes}
    assert ious == pytest.approx({"cat": 1 / 3, "dog": 1 / 2, "moai": 0})
    assert found.iou == pytest.approx((1 / 3 + 1 / 2) / 3)
    assert not found.accepted
    assert found.scores == {"cat": 0.5, "dog": 0.5, "moai": 0.5}, "read from regions of every kind"


@pytest.mark.parametrize(
    ("score", "expected"),
    [(0.5, {"cat": 0.75}), (0.9, {"cat": 0.9}), (None, {"cat": 0.75}), ("0.9", {"cat": 0.75}), (1e400, {"cat": 0.75})],
)
def test_scores_are_those_of_the_best_region_of_a_label(score: object, expected: dict[str, float]) -> None:
    regions = [region("cat", 5), {**box("cat", 0, 0, 5, 5), "score": score}, {"type": "choices", "score": 1}]
    assert scores_of(prediction(1, *regions)) == expected


def test_records_of_earlier_releases_are_read(redis: Redis, settings: Settings) -> None:
    """They looked at brushes only: one without any change is of polygons, or of nothing; nobody knows."""
    corrections, old = Corrections(redis, settings), []
    for one in (made_up(4), replace(made_up(4), annotation=41, changes=())):
        data = asdict(one)
        del data["not_compared"]
        old.append(data)
    redis.hset(store.corrections_key(1), "4", zlib.compress(json.dumps(old).encode()))
    first, second = corrections.of_task(1, 4)
    assert first == made_up(4)
    assert (second.accepted, second.iou) == (None, None)
    assert "--rebuild" in second.not_compared


def test_a_comparison_outlives_its_prediction(corrector: Corrector, studio: MemoryStudio) -> None:
    corrector.compare_task(1, 7)
    studio.stored[7] = []
    studio.annotated[7][0]["parent_prediction"] = None  # as Label Studio does
    assert corrector.compare_task(1, 7) == 1


def test_the_prediction_is_the_parent_else_our_newest_older_one() -> None:
    three = [prediction(1), prediction(2, at=LATER), prediction(4, version="another")]
    found = prediction_of(annotation(9, parent_prediction=1), three)
    assert found is not None
    assert found["id"] == 1
    found = prediction_of(annotation(9), three)
    assert found is not None
    assert found["id"] == 2


def test_label_studio_down_is_waited_for(
    corrector: Corrector, studio: MemoryStudio, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio.down = True
    corrector.hear(event("ANNOTATION_CREATED"))
    assert not corrector.round()
    assert redis.zcard(store.CORRECTIONS_DUE) == 1
    assert corrector.corrections.next_due() is None, "not before the pause is over"
    studio.down = False
    corrector.corrections.postpone(1, 7, seconds=0)
    work_off(corrector)
    assert len(kept(corrector)) == 1
    assert redis.zcard(store.CORRECTIONS_DUE) == 0


def test_a_webhook_that_comes_during_the_comparison_is_heeded(corrector: Corrector) -> None:
    corrector.corrections.look_at(1, [7])
    asked = time.time() - 1  # before the webhook
    corrector.corrections.done_with(1, 7, asked)
    assert corrector.corrections.next_due() == (1, 7)


def test_everything_is_rebuilt_from_label_studio(corrector: Corrector, studio: MemoryStudio) -> None:
    corrector.corrections.replace(1, 5, [replace(made_up(5), annotation=50)])  # its task is gone
    studio.show(6, "/data/upload/1/6.png")  # nobody has annotated it
    assert dict(corrector.rebuild(1)) == {7: 1, 5: 0}
    before = kept(corrector)
    assert dict(corrector.rebuild(1)) == {7: 1}
    assert kept(corrector) == before
    assert before[0].scores == {"cat": 0.75, "dog": 0.75}, "what the prediction still tells"


@pytest.mark.parametrize("broken", [{}, {"annotation": 3}, {"annotation": {"id": 1}, "project": {"id": 1}}])
def test_a_malformed_event_is_refused(corrector: Corrector, broken: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError)):
        corrector.hear({"action": "ANNOTATION_CREATED", **broken})


@pytest.mark.parametrize("action", ["TASKS_CREATED", "PROJECT_UPDATED", "ANNOTATIONS_DELETED", None])
def test_other_events_are_none_of_its_business(corrector: Corrector, redis: Redis, action: str | None) -> None:
    corrector.hear({"action": action})
    assert redis.dbsize() == 0


def made_up(task: int) -> Correction:
    changes = (Change("cat", 10, 12, 9, 0.5, ("M0 0Z", "M1 1Z")),)
    return Correction(1, task, task * 10, OURS, float(task), None, (64, 48), changes, {"cat": 0.5})


def test_a_record_survives_json(redis: Redis, settings: Settings) -> None:
    corrections = Corrections(redis, settings)
    corrections.replace(1, 4, [made_up(4)])
    assert corrections.of_task(1, 4) == [made_up(4)]
    assert asdict(corrections.of_task(1, 4)[0]) == asdict(made_up(4))
    assert corrections.task_of(1, 40) == 4
    assert corrections.projects() == [1]


def test_the_oldest_go_first(redis: Redis, settings: Settings) -> None:
    corrections = Corrections(redis, settings.model_copy(update={"car_correction_limit": 3}))
    for task in (5, 1, 4, 2, 3):
        corrections.replace(1, task, [made_up(task)])
    assert corrections.tasks(1) == [3, 4, 5]
    assert [one.task for one in corrections.newest(1, limit=2)] == [4, 5]
    assert corrections.task_of(1, 10) is None


def test_scores_are_kept_in_two_bytes_per_label(redis: Redis, settings: Settings) -> None:
    book = ScoreBook(redis, settings)
    scores = {f"label {number}": number / 100 for number in range(100)}
    book.note(1, 7, OURS, IMAGE, scores)
    assert book.scores(1, 7, OURS, IMAGE) == pytest.approx(scores, abs=5e-4)
    assert redis.hstrlen(store.scores_key(1, OURS), "7") == 4 + 200, "and the fingerprint"
    assert redis.ttl(store.scores_key(1, OURS)) > 86_400
    assert book.scores(1, 8, OURS, IMAGE) == book.scores(1, 7, "car-another-00000000-00000000", IMAGE) == {}


def test_scores_noted_for_one_image_are_not_given_for_another(redis: Redis, settings: Settings) -> None:
    book = ScoreBook(redis, settings)
    book.note(1, 7, OURS, IMAGE, {"cat": 0.75, "dog": 0.25})
    assert book.scores(1, 7, OURS, OTHER_IMAGE) == {}
    book.note(1, 7, OURS, OTHER_IMAGE, {"cat": 0.5, "dog": 0.125})
    assert book.scores(1, 7, OURS, OTHER_IMAGE) == {"cat": 0.5, "dog": 0.125}
    assert book.scores(1, 7, OURS, IMAGE) == {}, "replaced"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_scores_of_earlier_releases_are_not_given_for_any_image(redis: Redis, settings: Settings, count: int) -> None:
    """Their entries are the bare scores: nobody knows of which image."""
    scores = [0.75, 0.25, 0.5][:count]
    labels = json.dumps(["cat", "dog", "moai"][:count])
    redis.hset(store.scores_key(1, OURS), mapping={"labels": labels, "7": struct.pack(f"<{count}e", *scores)})
    assert ScoreBook(redis, settings).scores(1, 7, OURS, IMAGE) == {}


@pytest.mark.parametrize(
    ("version", "ours"),
    [(OURS, True), ("car-photos-1a2b3c4d-5e6f7a8b", True), ("CLIP-as-RNN", False), ("car-x-1-2", False), (None, False)],
)
def test_our_versions_are_known(version: str | None, ours: bool) -> None:
    assert is_ours(version) is ours
