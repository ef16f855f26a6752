"""Task ids are given out again, and images replaced: a correction is of the images that were annotated."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from backend.corrections.corrector import Corrector, prediction_of
from backend.corrections.records import OTHER, Correction
from backend.labeling.config import address_digest
from backend.provenance import Shown
from backend.queue.job import Job
from backend.settings import Settings
from tests.backend.conftest import MemoryStudio
from tests.backend.corrections.test_records import OURS, annotation, prediction, region

HERE, ELSEWHERE = "/data/upload/1/7.png", "/data/upload/1/other.png"


def drawn(address: str, pixels: int = 50) -> dict[str, Any]:
    """A region on an image, with an id as workers give it."""
    return {**region("cat", pixels), "id": address_digest(address) + "00000000"}


@pytest.fixture
def studio() -> MemoryStudio:
    """Task 7 of project 1, annotated beginning with a prediction of its image."""
    studio = MemoryStudio([7])
    studio.stored[7] = [prediction(1, drawn(HERE))]
    studio.annotated[7] = [annotation(3, region("cat", 40), parent_prediction=1)]
    return studio


@pytest.fixture
def corrector(redis: Redis, settings: Settings, studio: MemoryStudio) -> Corrector:
    return Corrector(redis, settings, studio)  # type: ignore[arg-type]


def kept(corrector: Corrector) -> list[Correction]:
    return corrector.corrections.of_task(1, 7)


@pytest.mark.parametrize("change", ["gone", "moved", "project"])
def test_a_task_that_left_its_project_is_forgotten(corrector: Corrector, studio: MemoryStudio, change: str) -> None:
    """Its id may belong to another project by now, with annotations of its own."""
    assert corrector.compare_task(1, 7) == 1
    assert len(kept(corrector)) == 1
    if change == "gone":
        studio.delete(7)
    elif change == "moved":
        studio.owner[7] = 2
    else:
        studio.projects_there = {2}
    assert corrector.compare_task(1, 7) == 0
    assert kept(corrector) == []
    assert corrector.corrections.task_of(1, 3) is None


def test_of_a_task_that_was_deleted_and_made_anew_nothing_is_kept(corrector: Corrector, studio: MemoryStudio) -> None:
    """Label Studio on SQLite gives the ids of deleted annotations out again, too."""
    corrector.compare_task(1, 7)
    studio.delete(7)
    studio.show(7, ELSEWHERE)
    later = "2026-11-20T12:30:00.000000Z"
    studio.annotated[7] = [annotation(3, region("cat", 10), created_at=later, updated_at=later)]
    assert corrector.compare_task(1, 7) == 0
    assert kept(corrector) == []


def test_a_deleted_task_is_looked_at_again_and_stays_if_it_is_there(corrector: Corrector, studio: MemoryStudio) -> None:
    """The event may be late: the id may belong to a new task of the project already."""
    corrector.compare_task(1, 7)
    event = {"action": "TASKS_DELETED", "tasks": [{"id": 7}, {"id": 8}], "project": {"id": 1}}
    corrector.hear(event)
    assert corrector.corrections.next_due() == (1, 7)
    assert corrector.round()
    assert not corrector.round(), "nothing is known of task 8"
    assert len(kept(corrector)) == 1
    studio.delete(7)
    corrector.hear(event)
    assert corrector.round()
    assert kept(corrector) == []


@pytest.mark.parametrize(
    ("parent", "count", "fingerprint"),
    [
        (1, 1, OTHER),  # the annotator began with it, so it is compared, but not with the present image
        (None, 0, None),  # it only happens to be older than the annotation
    ],
)
def test_a_prediction_of_another_image(
    corrector: Corrector, studio: MemoryStudio, parent: int | None, count: int, fingerprint: str | None
) -> None:
    studio.show(7, ELSEWHERE)
    studio.annotated[7][0]["parent_prediction"] = parent
    assert corrector.compare_task(1, 7) == count
    assert [one.fingerprint for one in kept(corrector)] == [fingerprint] * count


def test_an_image_that_is_replaced_after_the_comparison(corrector: Corrector, studio: MemoryStudio, job: Job) -> None:
    corrector.scores.note(1, 7, OURS, job.fingerprint, {"cat": 0.5, "statue": 0.25})
    corrector.compare_task(1, 7)
    (before,) = kept(corrector)
    assert (before.fingerprint, before.scores) == (job.fingerprint, {"cat": 0.5, "statue": 0.25})
    studio.show(7, ELSEWHERE)
    corrector.compare_task(1, 7)
    (after,) = kept(corrector)
    assert (after.fingerprint, after.scores) == (OTHER, {"cat": 0.75}), "the scores that the prediction itself tells"
    assert after.changes == before.changes
    studio.stored[7], studio.annotated[7][0]["parent_prediction"] = [], None  # the prediction was deleted
    corrector.compare_task(1, 7)
    assert kept(corrector) == [after]


def test_a_project_that_is_not_served_does_not_tell_the_image(corrector: Corrector, studio: MemoryStudio) -> None:
    studio.config = studio.config.replace('name="mask"', 'name="mask" model_skip="true"')
    assert corrector.compare_task(1, 7) == 1
    assert [one.fingerprint for one in kept(corrector)] == [""]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(HERE, HERE, 2), (HERE, ELSEWHERE, 1), (ELSEWHERE, ELSEWHERE, None), (ELSEWHERE, HERE, 2)],
)
def test_without_a_parent_our_newest_of_the_present_image_counts(
    job: Job, first: str, second: str, expected: int | None
) -> None:
    predictions = [prediction(1, drawn(first)), prediction(2, drawn(second))]
    found = prediction_of(annotation(9), predictions, Shown(job, {"image": HERE}))
    assert (found and found["id"]) == expected
