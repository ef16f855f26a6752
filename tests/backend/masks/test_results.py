"""Masks as regions: brush strokes, polygons and rectangles, one per label or per object."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from backend.export.regions import regions
from backend.labeling.config import Control, ImageTag, Label, LabelingConfig, Picture
from backend.masks.results import parts, prediction, region_id, regions_of
from backend.queue.job import Job
from tests.backend.conftest import one_image

LABELS = (Label("cat", "felis", ("cat",)), Label("dog", "dog", ("dog",)))
NAMES = (("cat", "felis"), ("dog", "dog"))


@dataclass(frozen=True)
class Found:
    labels: tuple[str, ...]
    masks: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float32]


def job(*controls: Control, labels: tuple[Label, ...] = LABELS) -> Job:
    image = ImageTag("image", "image", controls, labels)
    return Job(1, 7, one_image("/a.png"), LabelingConfig((image,), "demo"), "v1")


def filled(asked: Job, found: Found) -> list[dict[str, Any]]:
    return regions_of(asked, asked.pictures[0], found)


def masks(*boxes: tuple[int, int, int, int]) -> npt.NDArray[np.bool_]:
    """One mask of 20 x 40 pixels with boxes (top, bottom, left, right)."""
    mask = np.zeros((20, 40), bool)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


CATS = masks((2, 6, 4, 8), (10, 18, 20, 36))
FOUND = Found(("cat",), CATS[None], np.array([0.75], np.float32))


def described(one: dict[str, Any]) -> tuple[str, str, str]:
    return one["from_name"], one["type"], one["value"][one["type"]][0]


def test_each_control_is_filled_in_its_own_way() -> None:
    result = filled(
        job(
            Control("brush", "mask", NAMES),
            Control("polygon", "outline", (("cat", "cat"),)),
            Control("rectangle", "box", NAMES, "components"),
            Control("rectangle", "dogs", (("dog", "dog"),)),
        ),
        FOUND,
    )
    assert [described(one) for one in result] == [
        ("mask", "brushlabels", "felis"),
        ("outline", "polygonlabels", "cat"),
        ("outline", "polygonlabels", "cat"),
        ("box", "rectanglelabels", "felis"),
        ("box", "rectanglelabels", "felis"),
    ]
    assert {one["score"] for one in result} == {0.75}
    assert len({one["id"] for one in result}) == 5
    large, small = result[3:]
    assert {name: large["value"][name] for name in ("x", "y", "width", "height", "rotation")} == {
        "x": 50.0,
        "y": 50.0,
        "width": 40.0,
        "height": 40.0,
        "rotation": 0,
    }
    assert small["value"]["width"] == 10.0


@pytest.mark.parametrize(("kind", "same"), [("brush", 1.0), ("rectangle", 1.0), ("polygon", 0.7)])
def test_what_is_written_is_read_back(kind: str, same: float) -> None:
    result = filled(job(Control(kind, "mask", NAMES, "components")), FOUND)
    read = regions(result, ["felis"])
    assert len(read) == 2
    union = read[0].mask | read[1].mask
    assert (union & CATS).sum() / (union | CATS).sum() >= same


def test_one_region_per_label_unless_parts_are_asked_for() -> None:
    for instances, count in (("one", 1), ("components", 2)):
        result = filled(job(Control("brush", "mask", NAMES, instances)), FOUND)
        assert len(result) == count
    boxes = filled(job(Control("rectangle", "box", NAMES)), FOUND)
    assert [one["value"]["height"] for one in boxes] == [80.0]


def test_parts_are_sorted_by_size_and_the_rest_stays_together() -> None:
    mask = masks(*((0, 1 + number % 3, 4 * number, 4 * number + 2) for number in range(10)))
    found = parts(mask)
    assert [one.sum() for one in found] == [6, 6, 6, 4, 4, 4, 2, 6]
    assert (np.sum(found, axis=0) == mask).all()
    assert parts(np.eye(3, dtype=bool))[0].sum() == 3  # corners touch
    assert parts(np.zeros((3, 3), bool)) == []


def test_lines_of_pixels_are_no_polygons() -> None:
    line = Found(("cat",), masks((3, 4, 5, 30))[None], np.array([0.5], np.float32))
    assert filled(job(Control("polygon", "outline", NAMES)), line) == []


def test_a_label_of_the_task_is_stored_where_labels_are_dynamic() -> None:
    asked = job(Control("brush", "mask", (), dynamic=True), Control("brush", "fixed", NAMES), labels=LABELS[1:])
    (image,) = asked.config.images
    asked, plain = replace(asked, config=replace(asked.config, images=(replace(image, task_labels=LABELS[:1]),))), asked
    assert [described(one) for one in filled(asked, FOUND)] == [
        ("mask", "brushlabels", "felis"),
        ("fixed", "brushlabels", "felis"),
    ]
    assert asked.id_at("") != plain.id_at("")


def test_region_ids_are_stable_and_distinct() -> None:
    own = job(Control("brush", "mask", NAMES))
    (picture,) = own.pictures
    places = [("mask", "cat", 0), ("mask", "cat", 1), ("mask", "dog", 0), ("box", "cat", 0)]
    ids = [region_id(own, picture, *place) for place in places]
    assert ids == [region_id(own, picture, *place) for place in places]
    assert len(set(ids)) == 4
    assert region_id(replace(own, version="v2"), picture, *places[0]) not in ids
    assert region_id(replace(own, task=8), picture, *places[0]) not in ids


def test_a_region_id_begins_with_eight_digits_of_its_image() -> None:
    """The digest by hand: `printf /a.png | sha256sum`."""
    own = job(Control("brush", "mask", NAMES))
    here, page, elsewhere = Picture("image", "/a.png"), Picture("image", "/a.png", 1), Picture("image", "/b.png")
    ids = [region_id(own, picture, "mask", "cat") for picture in (here, page, elsewhere)]
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in ids)
    assert [one[:8] for one in ids] == ["7bd33524", "7bd33524", "c1062b90"]
    assert ids[0][8:] == ids[2][8:] != ids[1][8:], "the region's own digits tell pages apart, not images"


def test_nothing_found_is_an_empty_prediction() -> None:
    asked = job(Control("brush", "mask", NAMES))
    nothing = Found((), np.zeros((0, 20, 40), bool), np.zeros(0, np.float32))
    assert prediction(asked, filled(asked, nothing), nothing.scores) == {
        "result": [],
        "score": 0.0,
        "model_version": "v1",
    }


def test_the_pages_of_an_image_are_told_apart() -> None:
    asked = job(Control("brush", "mask", NAMES), Control("rectangle", "box", NAMES))
    pages = [regions_of(asked, Picture("image", "/a.png", page), FOUND) for page in (0, 1)]
    assert [one["item_index"] for page in pages for one in page] == [0, 0, 1, 1]
    ids = [one["id"] for page in [filled(asked, FOUND), *pages] for one in page]
    assert len(set(ids)) == len(ids)
