"""Whether a stored prediction was made from the images that its task shows now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from redis import Redis

from backend import store
from backend.labeling.parsing import LabelingConfig, Picture, parse_config
from backend.masks.results import prediction, regions_of
from backend.provenance import (
    Holdings,
    Origin,
    Shown,
    begun_with,
    fits,
    images_of,
    ours,
    same_regions,
    shown,
    shows_still,
)
from backend.queue.job import Job, job_of
from backend.settings import Settings
from model.segmentation import Segmentation
from tests.backend.conftest import finished, one_image

PAIR = """<View><Image name="left" value="$a"/><Image name="right" value="$b"/>
<BrushLabels name="mask" toName="left"><Label value="cat"/></BrushLabels>
<RectangleLabels name="box" toName="right"><Label value="cat"/></RectangleLabels></View>"""
PAGES = """<View><Image name="book" valueList="$pages"/>
<PolygonLabels name="outline" toName="book"><Label value="cat"/></PolygonLabels></View>"""
A, B, C = "/data/upload/1/a.png", "/data/upload/1/b.png", "/data/upload/1/c.png"


def job_for(xml: str, data: Mapping[str, Any]) -> Job:
    config = parse_config(xml, "demo")
    job = job_of({"id": 7, "data": data}, 1, config, config.version())
    assert job is not None
    return job


def drawn_by_worker(job: Job) -> dict[str, Any]:
    """What a worker makes of a job: a cat on each image."""
    masks = np.zeros((1, 20, 30), bool)
    masks[0, 5:15, 5:25] = True
    found = Segmentation(("cat",), masks, np.array([0.5], np.float32), {"cat": 0.5}, (), {})
    regions = [region for picture in job.pictures for region in regions_of(job, picture, found)]
    return prediction(job, regions, found.scores)


def old_ids(made: dict[str, Any], ids: str) -> dict[str, Any]:
    """The prediction with ids of regions that do not stand for images."""
    return {**made, "result": [{**one, "id": ids.format(n)} for n, one in enumerate(made["result"])]}


def digests(*addresses: str) -> list[str]:
    return [Picture("", address).digest for address in addresses]


def test_the_images_of_a_prediction_are_read_from_its_regions() -> None:
    left, right = digests(A, B)
    pair, book = job_for(PAIR, {"a": A, "b": B}), job_for(PAGES, {"pages": [A, B]})
    assert images_of(drawn_by_worker(pair)) == {("left", 0, left), ("right", 0, right)}
    assert images_of(drawn_by_worker(book)) == {("book", 0, left), ("book", 1, right)}


@pytest.mark.parametrize("ids", ["{}", "0123456789{}", "0123456789ABCDE{}", "q7Zk2{}", "0123456789abcdef{}", ""])
def test_ids_of_another_kind_do_not_tell_images(ids: str) -> None:
    """Ten digits are ids of earlier releases; annotators' own regions have ten letters."""
    made = drawn_by_worker(job_for(PAIR, {"a": A, "b": B}))
    assert images_of(old_ids(made, ids)) == set()
    assert images_of({"result": [made["result"][0], old_ids(made, ids)["result"][1]]}) == set(), "not half of it"


@pytest.mark.parametrize("result", [None, [], [5], [{}], [{"id": None}]])
def test_a_result_without_regions_does_not_tell_images(result: Any) -> None:
    assert images_of({"result": result}) == set()


OTHER_VERSION = "car-demo-00000000-00000000"
TWO, BOOK = {"a": A, "b": B}, {"pages": [A, B]}


@pytest.mark.parametrize(
    ("xml", "data", "now", "expected"),
    [
        pytest.param(PAIR, TWO, TWO, Origin.PRESENT, id="same images"),
        pytest.param(PAIR, TWO, {"a": A, "b": C}, Origin.OTHER, id="one other image"),
        pytest.param(PAIR, TWO, {"a": C, "b": C}, Origin.OTHER, id="other images"),
        pytest.param(PAIR, TWO, {"a": B, "b": A}, Origin.OTHER, id="tags swapped"),
        pytest.param(PAIR, {"a": A, "b": A}, {"a": A, "b": B}, Origin.OTHER, id="the same image for both tags before"),
        pytest.param(PAIR, TWO, {**TWO, "text": C}, Origin.PRESENT, id="other data"),
        pytest.param(PAGES, BOOK, BOOK, Origin.PRESENT, id="same pages"),
        pytest.param(PAGES, BOOK, {"pages": [B, A]}, Origin.OTHER, id="pages swapped"),
        pytest.param(PAGES, BOOK, {"pages": [A, C]}, Origin.OTHER, id="one other page"),
        pytest.param(PAGES, BOOK, {"pages": [A]}, Origin.OTHER, id="a page less"),
        pytest.param(PAGES, BOOK, {"pages": [C, A, B]}, Origin.OTHER, id="a page in front"),
    ],
)
def test_a_prediction_of_the_present_version(
    xml: str, data: dict[str, Any], now: dict[str, Any], expected: Origin
) -> None:
    present = job_for(xml, now)
    assert Shown(present, now).origin(drawn_by_worker(job_for(xml, data))) is expected
    assert Shown(present, now, present.fingerprint).origin(drawn_by_worker(job_for(xml, data))) is expected, "ids first"


@pytest.mark.parametrize(
    ("data", "now", "expected"),
    [
        pytest.param(TWO, TWO, Origin.PRESENT, id="same images"),
        pytest.param(TWO, {"a": B, "b": A}, Origin.PRESENT, id="under other tags: tags may have been renamed"),
        pytest.param(TWO, {"a": A, "b": C, "old": B}, Origin.PRESENT, id="still in the data under another field"),
        pytest.param(TWO, {"a": A, "b": C, "more": [{"deep": f" {B} "}]}, Origin.PRESENT, id="deep in the data"),
        pytest.param(TWO, {"a": A, "b": C}, Origin.OTHER, id="one other image"),
        pytest.param(TWO, {"a": A, "b": C, "old": B + "x"}, Origin.OTHER, id="one other image, a similar address"),
    ],
)
def test_a_prediction_of_another_version(data: dict[str, Any], now: dict[str, Any], expected: Origin) -> None:
    """Another labeling config may have shown other fields: it counts as present while all its images are there."""
    made = {**drawn_by_worker(job_for(PAIR, data)), "model_version": OTHER_VERSION}
    assert Shown(job_for(PAIR, now), now).origin(made) is expected


EMPTY: dict[str, Any] = {"result": [], "score": 0.0}


@pytest.mark.parametrize("kind", ["empty", "earlier release"])
@pytest.mark.parametrize(
    ("version", "held", "expected"),
    [
        pytest.param("present", "present", Origin.PRESENT, id="recorded: of the present images"),
        pytest.param("present", "another", Origin.OTHER, id="recorded: of others"),
        pytest.param("present", None, Origin.UNKNOWN, id="no record"),
        pytest.param("other", "present", Origin.UNKNOWN, id="the record is of another version"),
        pytest.param("other", None, Origin.UNKNOWN, id="another version, no record"),
    ],
)
def test_where_regions_do_not_tell_the_record_does(kind: str, version: str, held: str | None, expected: Origin) -> None:
    job = job_for(PAIR, TWO)
    made = EMPTY if kind == "empty" else old_ids(drawn_by_worker(job), "0123456789{}")
    made = {**made, "model_version": job.version if version == "present" else OTHER_VERSION}
    fingerprints = {"present": job.fingerprint, "another": job_for(PAIR, {"a": A, "b": C}).fingerprint}
    assert Shown(job, TWO, held and fingerprints[held]).origin(made) is expected


def test_records_are_per_task_version_and_project_and_expire(redis: Redis, settings: Settings, job: Job) -> None:
    holdings = Holdings(redis, settings)
    holdings.note(job)
    holdings.note(replace(job, task=8, pictures=one_image(C)))
    expected = {7: job.fingerprint, 8: replace(job, pictures=one_image(C)).fingerprint}
    assert holdings.of(1, job.version, [7, 8, 9]) == expected
    assert expected[7] != expected[8]
    assert holdings.of(1, job.version, []) == holdings.of(2, job.version, [7]) == holdings.of(1, "v2", [7]) == {}
    assert 0 < redis.ttl(store.held_key(1, job.version)) <= settings.car_correction_days * 86_400


def test_tasks_come_with_what_they_show_and_the_record(
    redis: Redis, settings: Settings, config: LabelingConfig, job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    holdings = Holdings(redis, settings)
    holdings.note(job)
    tasks = [{"id": 7, "data": {"image": A}}, {"id": 8, "data": {}}, {"id": 9, "data": {"image": B}}]
    found = {task["id"]: now for task, now in shown(tasks, 1, config, config.version(), holdings)}
    assert {number: (now.job.pictures, now.held) for number, now in found.items()} == {
        7: (one_image(A), job.fingerprint),
        9: (one_image(B), None),
    }
    assert caplog.text == "", "a task without an image is left out silently"


@pytest.mark.parametrize(
    ("data", "still"),
    [({"image": A}, True), ({"image": A, "note": "x"}, True), ({"image": B}, False), ({}, False), (None, False)],
)
def test_whether_a_task_still_is_what_a_job_was_made_from(config: LabelingConfig, data: Any, still: bool) -> None:
    job = Job(1, 7, one_image(A), config, config.version())
    task = {"id": 7, "data": data}
    assert fits(job, task) is still
    assert shows_still(task, 1, config, job.fingerprint) is still
    assert shows_still(task, 1, config, "") is bool(data), "it is not known what was shown"
    assert not shows_still(task, 1, config, "other")


def test_a_label_of_the_task_counts_as_what_it_shows() -> None:
    xml = """<View><Image name="image" value="$image"/>
    <BrushLabels name="mask" toName="image" value="$labels"/></View>"""
    job = job_for(xml, {"image": A, "labels": ["cat"]})
    assert fits(job, {"id": 7, "data": {"image": A, "labels": ["cat"]}})
    assert not fits(job, {"id": 7, "data": {"image": A, "labels": ["dog"]}})


def test_equal_drawings_are_known_whatever_their_ids() -> None:
    made = drawn_by_worker(job_for(PAIR, TWO))
    turned = {**made, "result": made["result"][::-1]}
    assert same_regions(made, old_ids(turned, "0123456789{}"))
    assert same_regions(EMPTY, {"result": None})
    assert not same_regions(made, {**made, "result": made["result"][:1]})
    elsewhere = [{**made["result"][0], "to_name": "right"}, made["result"][1]]
    assert not same_regions(made, {**made, "result": elsewhere})


def test_what_an_annotation_began_with_and_what_is_ours(job: Job) -> None:
    predictions = [{"id": n, **finished(version)} for n, version in ((3, OTHER_VERSION), (2, "CLIP"), (1, job.version))]
    task = {"predictions": predictions, "annotations": [{"parent_prediction": 3}, {"parent_prediction": None}, {}]}
    assert begun_with(task) == {3}
    assert [one["id"] for one in ours(task)] == [1, 3]
    assert begun_with({}) == set()
    assert ours({}) == []
