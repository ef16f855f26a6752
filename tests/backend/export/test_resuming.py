"""An interrupted export goes on, and equals a fresh one: whatever was changed, deleted or made anew since."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from backend.export.choice import Plan, as_of
from backend.export.exporter import PARTIAL, Exporter
from backend.labeling.parsing import LabelingConfig, parse_config
from backend.masks import brush
from backend.studio.client import StudioUnavailable
from tests.backend.conftest import CONFIG, MemoryStudio
from tests.backend.export.test_exporter import DISC, PLAN, RING, SIZE, drawn, files, task

LATER = "2026-03-01T00:00:00.000000Z"
OURS = "car-demo-0123abcd-4567cdef"


def stopping_after(count: int) -> Callable[[], None]:
    """What hears of each task, and stops the export after so many."""
    heard = []

    def told() -> None:
        heard.append(1)
        if len(heard) == count:
            raise KeyboardInterrupt

    return told


def fetch(url: str, task_id: int) -> Any:
    """A picture whose shade stands for its address."""
    return np.full((*SIZE, 3), sum(url.encode()) % 251, np.uint8)


class Export:
    """An export of five tasks, stopped after four; each has a cat of its own."""

    def __init__(self, folder: Path, config: LabelingConfig, plan: Plan):
        self.folder, self.config, self.plan = folder, config, plan
        self.studio: Any = MemoryStudio()
        for number in range(1, 6):
            self.hold(number)
        with pytest.raises(KeyboardInterrupt):
            self.run(stopping_after(4))

    def hold(self, number: int, mask: Any = RING, moment: str = "2026-02-01", name: str | None = None) -> None:
        """Have a task with an annotation and a prediction."""
        result = [brush.region(mask, "cat", "mask", "image", 0.5, "a")]
        predicted = {"id": number, "model_version": OURS, "created_at": moment, "result": result}
        found = {**task(number, drawn((mask, "cat")), name=name), "predictions": [predicted]}
        self.studio.hold(found, moment)

    def run(self, told: Callable[[], object] = lambda: None) -> list[int]:
        """Run the export, or go on with it; the tasks that were written."""
        written: list[int] = []
        exporter = Exporter(self.plan, self.config, self.folder / "resumed", fetch, self.studio)
        export = exporter._export

        def watched(found: Any) -> Any:
            written.append(found["id"])
            return export(found)

        exporter._export = watched  # type: ignore[method-assign]
        exporter.run(exporter.tasks(), told)
        return written

    def equals_a_fresh_one(self) -> bool:
        """Whether all files are those of an export that was not interrupted."""
        fresh = Exporter(self.plan, self.config, self.folder / "fresh", fetch, self.studio)
        fresh.run(fresh.tasks(), lambda: None)
        return files(self.folder / "resumed") == files(self.folder / "fresh")


@pytest.fixture(params=["png", "coco", "yolo-seg"])
def export(request: pytest.FixtureRequest, config: LabelingConfig, tmp_path: Path) -> Export:
    return Export(tmp_path, config, replace(PLAN, format=request.param))


def test_nothing_changed(export: Export) -> None:
    export.studio.calls.clear()
    assert export.run() == [5]
    assert export.studio.calls == ["tasks", "whole tasks", "whole tasks"], "without masks where they are not needed"
    assert export.equals_a_fresh_one()


@pytest.mark.parametrize(
    ("change", "written"),
    [
        pytest.param(lambda one: one.studio.delete(2), [5], id="a task was deleted"),
        pytest.param(lambda one: one.studio.delete(4), [5], id="the last task of the log was deleted"),
        pytest.param(lambda one: one.hold(2, moment=LATER, name="new.png"), [2, 5], id="an image was replaced"),
        pytest.param(lambda one: one.hold(2, DISC, LATER), [2, 5], id="an annotation was changed"),
        pytest.param(lambda one: one.hold(4, DISC, LATER), [4, 5], id="the last task of the log was changed"),
        pytest.param(lambda one: one.studio.hold(task(1), LATER), [1, 5], id="an annotation was deleted"),
        pytest.param(lambda one: one.hold(6), [5, 6], id="a task was created"),
        pytest.param(
            lambda one: [one.hold(2, DISC, LATER), one.studio.delete(3), one.hold(1, DISC, LATER)],
            [1, 2, 5],
            id="several at once",
        ),
        pytest.param(
            lambda one: [one.hold(2, moment=LATER, name="picture 4.png")],
            [2, 3, 4, 5],
            id="another image of a name that is taken: names are given in order",
        ),
        pytest.param(lambda one: [one.studio.delete(number) for number in range(1, 6)], [], id="all are gone"),
    ],
)
def test_what_changed_since_is_written_again(
    export: Export, change: Callable[[Export], object], written: list[int]
) -> None:
    change(export)
    assert export.run() == written
    assert export.equals_a_fresh_one()


def test_an_id_that_was_given_out_again_is_another_task(export: Export) -> None:
    """Task 3 was gone when the log was written; 3 and 4 are new ones."""
    export.studio.delete(3)
    with pytest.raises(KeyboardInterrupt):
        export.run(stopping_after(1))
    export.studio.delete(4)
    export.studio.delete(5)
    for number in (3, 4):
        export.hold(number, DISC, LATER, name=f"another {number}.png")
    assert export.run() == [3, 4]
    assert export.equals_a_fresh_one()


def test_interrupted_again_while_changed_tasks_are_written(export: Export) -> None:
    for number in (1, 2, 3):
        export.hold(number, DISC, LATER)
    with pytest.raises(KeyboardInterrupt):
        export.run(stopping_after(2))
    with pytest.raises(KeyboardInterrupt):
        export.run(stopping_after(1))
    assert export.run() == [5]
    assert export.equals_a_fresh_one()


@pytest.mark.parametrize(("same", "written"), [((1, 2, 3, 4), [2, 3, 4, 5]), ((1, 2), [2, 3, 4, 5]), ((3, 4), [5])])
def test_images_of_equal_names_keep_the_names_of_a_fresh_export(
    config: LabelingConfig, tmp_path: Path, same: tuple[int, ...], written: list[int]
) -> None:
    """Once the first of two is deleted, same-2.png is same.png; once the last is, nothing changes."""
    export = Export(tmp_path, config, PLAN)
    for number in range(1, 6):
        export.hold(number, moment=LATER, name="same.png" if number in same else None)
    with pytest.raises(KeyboardInterrupt):
        export.run(stopping_after(4))
    export.studio.delete(1 if 1 in same else 4)
    assert export.run() == written
    assert export.equals_a_fresh_one()


def test_labels_of_tasks_keep_the_numbers_of_a_fresh_export(tmp_path: Path) -> None:
    config = parse_config(CONFIG.replace('toName="image">', 'toName="image" value="$labels">'), "demo")
    export = Export(tmp_path, config, PLAN)
    for number, label in enumerate(("ant", "bee", "fly", "bee"), 1):
        result = [brush.region(RING, label, "mask", "image", None, "a")]
        found = task(number, {"id": 1, "result": result}, name=f"{number}.png")
        found["data"]["labels"] = [label]
        export.studio.hold(found, LATER)
    with pytest.raises(KeyboardInterrupt):
        export.run(stopping_after(3))
    export.studio.delete(1)
    assert export.run() == [2, 3, 4, 5]
    assert (tmp_path / "resumed" / "classes.txt").read_text().split() == ["cat", "statue", "bee", "fly"]
    assert np.array(Pillow.open(tmp_path / "resumed" / "masks" / "2.png")).max() == 3
    assert export.equals_a_fresh_one()


@pytest.mark.parametrize(
    ("change", "written"),
    [
        ({}, [5]),
        ({"id": 9}, [2, 5]),
        ({"created_at": LATER}, [2, 5]),  # the id of a deleted one, given out again
        ({"model_version": "somebody else's"}, [2, 5]),
    ],
)
def test_predictions_that_were_imported_since_are_noticed(
    config: LabelingConfig, tmp_path: Path, change: dict[str, Any], written: list[int]
) -> None:
    """A bulk import does not change the task's `updated_at`."""
    export = Export(tmp_path, config, replace(PLAN, source="predictions"))
    export.studio.stored[2][0].update(
        {"result": [brush.region(DISC, "cat", "mask", "image", 0.5, "b")]} if change else {}
    )
    export.studio.stored[2][0].update(change)
    assert export.run() == written
    assert export.equals_a_fresh_one()


def test_lines_of_an_earlier_release_are_written_again(export: Export) -> None:
    log = export.folder / "resumed" / PARTIAL
    plan, *lines = map(json.loads, log.read_text().splitlines())
    for line in lines:
        del line["as_of"]
    log.write_text("".join(json.dumps(line) + "\n" for line in (plan, *lines)))
    export.studio.delete(1)
    assert export.run() == [2, 3, 4, 5]
    assert export.equals_a_fresh_one()


def test_stopped_in_its_first_line(export: Export) -> None:
    log = export.folder / "resumed" / PARTIAL
    log.write_text(log.read_text()[:20])
    assert export.run() == [1, 2, 3, 4, 5]
    assert export.equals_a_fresh_one()


def test_label_studio_away_leaves_the_export_as_it_is(export: Export) -> None:
    before = files(export.folder)
    export.studio.down = True
    with pytest.raises(StudioUnavailable):
        export.run()
    assert files(export.folder) == before
    export.studio.down = False
    assert export.run() == [5]


def test_what_changes_when_a_task_has_to_be_exported_again() -> None:
    predictions = [{"id": 3, "model_version": OURS, "created_at": "c"}, {"id": 4, "model_version": "CLIP"}]
    found = {"updated_at": "u", "predictions": predictions}
    of_predictions = replace(PLAN, source="predictions")
    assert as_of(found, PLAN) == ["u"]
    assert as_of(found, of_predictions) == ["u", 3, "c"]
    assert as_of({"updated_at": "u"}, of_predictions) == ["u"]
