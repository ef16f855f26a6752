"""A memory made of corrected tasks, on pictures of four numbers: what CLIP would see of a mask is the colour in it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from backend.corrections.remembering import Remembering
from backend.corrections.trials import Example
from model.memory import NOTHING, Memory, Origin
from model.presets import Preset, preset
from model.segmentation import Segmentation
from model.vocabulary import vocabulary

LABELS = ("cat", "dog", "zorblax")
COLOURS = {"cat": (1.0, 0.0, 0.1), "dog": (0.0, 1.0, 0.1), "zorblax": (0.1, 0.1, 1.0), "stain": (-1.0, 0.0, 0.0)}
HALVES = {"left": np.arange(20) < 10, "right": np.arange(20) >= 10}


def mask(side: str) -> np.ndarray:
    return np.tile(HALVES[side], (20, 1))


class Towers:
    def origin(self, chosen: Preset) -> Origin:
        return Origin("p", "c", {})


class Knows:
    """Finds cats and dogs by their colour, calls stains cats, and knows what a zorblax is if it is remembered."""

    def __init__(self) -> None:
        self.preset = preset("demo")
        self.memory: Memory | None = None
        self.towers = Towers()
        self.helpful = True
        self.seen: list[int] = []

    def under(self, chosen: Preset, memory: Memory | None = None) -> Knows:
        other = copy.copy(self)
        other.memory = memory
        return other

    def looks(self, image: np.ndarray, masks: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        means = [image[one].astype(np.float32).mean(axis=0) / 100 - 1 for one in masks]
        rows = np.array([row / np.linalg.norm(row) for row in means], np.float32).reshape(-1, 3)
        return rows, rows

    def segment(self, image: np.ndarray, queries: Any, floors: Mapping[str, float]) -> Segmentation:
        self.seen.append(id(self.memory))
        found = {}
        for side in HALVES:
            (look,), _ = self.looks(image, [mask(side)])
            name = max(COLOURS, key=lambda one: look @ np.array(COLOURS[one]))
            name = "cat" if name == "stain" else name
            if self.memory is not None and self.helpful and len(self.memory.labels):
                nearest = int((self.memory.scored @ look).argmax())
                if self.memory.scored[nearest] @ look > self.memory.strength.reach:
                    name = self.memory.labels[nearest]
            elif name == "zorblax":
                name = NOTHING
            if name:
                found[name] = mask(side)
        masks = np.stack(list(found.values())) if found else np.zeros((0, 20, 20), bool)
        scores = {label: float(label in found) for label in LABELS}
        return Segmentation(tuple(found), masks, np.ones(len(found), np.float32), scores, (), {})


def picture(left: str, right: str, task: int) -> np.ndarray:
    noise = np.random.default_rng(task).normal(scale=3, size=(2, 3))
    image = np.zeros((20, 20, 3))
    for number, (side, name) in enumerate({"left": left, "right": right}.items()):
        image[mask(side)] = 100 + 80 * np.array(COLOURS[name]) + noise[number]
    return image.clip(0, 255).astype(np.uint8)


def example(task: int) -> Example:
    left, right = [("cat", "dog"), ("zorblax", "dog"), ("cat", "stain"), ("zorblax", "stain")][task % 4]
    there = {name: mask(side) for side, name in {"left": left, "right": right}.items() if name != "stain"}
    return Example(task, lambda: picture(left, right, task), lambda: there)


def remembering(count: int, **kwargs: Any) -> Remembering:
    return Remembering(Knows(), vocabulary(LABELS), [example(task) for task in range(count)], **kwargs)  # type: ignore[arg-type]


def test_a_memory_that_helps_is_proposed_and_knows_all_tasks() -> None:
    proposal, memory = remembering(24).propose()
    assert proposal.accepted, proposal.reason
    assert proposal.held_out is not None
    assert (proposal.held_out.before, proposal.held_out.after) == (pytest.approx(0.5, abs=0.2), 1)
    assert memory is not None
    assert set(memory.tasks.tolist()) == set(range(24))
    assert sorted(set(memory.labels)) == [NOTHING, *LABELS]
    assert memory.strength.reach < memory.strength.near


@pytest.mark.parametrize(("count", "reason"), [(3, "Too few: 3 corrected tasks, 10 are needed"), (0, "Too few: 0")])
def test_a_few_are_refused_before_anything_is_segmented(count: int, reason: str) -> None:
    found = remembering(count)
    proposal, memory = found.propose()
    assert memory is None
    assert not proposal.accepted
    assert reason in proposal.reason
    assert found.segmenter.seen == []  # type: ignore[attr-defined]


def test_without_a_gain_nothing_is_written() -> None:
    found = remembering(24)
    found.segmenter.helpful = False  # type: ignore[attr-defined]
    proposal, memory = found.propose()
    assert memory is None
    assert "No gain: on the 12 tasks that choose" in proposal.reason


def test_regions_that_never_come_twice_teach_nothing() -> None:
    tasks = [Example(task, example(task).image, dict) for task in range(12)]
    proposal, memory = Remembering(Knows(), vocabulary(LABELS), tasks).propose()  # type: ignore[arg-type]
    assert memory is None
    assert "no more alike" in proposal.reason


def test_the_tasks_that_judge_are_not_remembered_and_a_task_does_not_help_itself() -> None:
    found = remembering(12)
    asked: list[tuple[int, set[int]]] = []
    segment = found.segment

    def watched(task: int, memory: Memory) -> Any:
        asked.append((task, set(memory.tasks.tolist())))
        return segment(task, memory)

    found.segment = watched  # type: ignore[method-assign]
    assert found.propose()[0].accepted
    assert asked
    assert all(task not in known for task, known in asked)
    judging = {task for task, known in asked if len(known) == 6}
    assert len(judging) == 6
    assert all(not judging & known for _, known in asked)


def test_a_prediction_that_got_another_name_is_not_nothing() -> None:
    relabelled = Example(1, example(0).image, lambda: {"dog": mask("left")})  # the cat is a dog, the dog was deleted
    found = Remembering(Knows(), vocabulary(LABELS), [relabelled]).lesson(1)  # type: ignore[arg-type]
    assert found.labels == ("dog",), "the cat's region is the dog's now"
    deleted = Example(1, example(0).image, dict)
    assert Remembering(Knows(), vocabulary(LABELS), [deleted]).lesson(1).labels == ("", "")  # type: ignore[arg-type]


def test_annotators_who_err_teach_but_do_not_judge() -> None:
    def wrong(one: Example) -> Mapping[str, np.ndarray]:
        return {"cat" if label == "zorblax" else label: region for label, region in one.masks().items()}

    submitted: Callable[[Example], Mapping[str, np.ndarray]] = wrong
    proposal, memory = remembering(24, submitted=submitted).propose()
    assert memory is None or "zorblax" not in memory.labels
    assert proposal.held_out is None or proposal.held_out.after < 1
