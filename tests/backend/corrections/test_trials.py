from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.corrections import calibrate_folder
from backend.corrections.calibrate_folder import as_text, read_folder
from backend.corrections.proposals import Outcome, Proposal, ProposalError
from backend.corrections.trials import Example, Setting, Trials
from backend.settings import Settings
from model.presets import Preset, preset
from model.scores import reported
from model.segmentation import Segmentation
from model.vocabulary import vocabulary

SCENES = Path(__file__).parents[3] / "model" / "demo" / "scenes" / "studio"
LABELS = ("cat", "dog")
START = Setting(0.3, 0.5, ())


class Sees:
    """A segmenter for pictures that say which labels are there: exact at eta 0.4, with lambda 0.7; else too large."""

    def __init__(self, best: tuple[float, float] = (0.4, 0.7)) -> None:
        self.preset = preset("demo")
        self.best = best
        self.seen: list[tuple[float, float, dict[str, float]]] = []

    def under(self, chosen: Preset) -> Sees:
        other = copy.copy(self)
        other.preset = chosen
        return other

    def segment(self, image: np.ndarray, queries: Any, floors: dict[str, float]) -> Segmentation:
        eta, lambda_ = self.preset.eta, self.preset.lambda_
        SEEN.append((eta, lambda_, floors))
        there = [label for bit, label in enumerate(LABELS) if image[0, 0, 0] >> bit & 1]
        slack = (eta != self.best[0]) + (lambda_ != self.best[1])
        masks = [truth(label, slack) for label in there]
        scores = {label: 0.8 if label in there else 0.01 for label in LABELS}
        found = np.stack(masks) if masks else np.zeros((0, 20, 20), bool)
        return Segmentation(tuple(there), found, np.full(len(there), 0.8, np.float32), scores, (), {})


SEEN: list[tuple[float, float, dict[str, float]]] = []


def truth(label: str, slack: int = 0) -> np.ndarray:
    mask = np.zeros((20, 20), bool)
    start = 2 if label == "cat" else 12
    mask[2 : 8 + 2 * slack, start : start + 5] = True
    return mask


def examples(count: int) -> list[Example]:
    def example(task: int) -> Example:
        bits = 1 + task % 3
        there = {label: truth(label) for bit, label in enumerate(LABELS) if bits >> bit & 1}
        return Example(task, lambda: np.full((20, 20, 3), bits, np.uint8), lambda: there)

    return [example(task) for task in range(count)]


def trials(count: int, **kwargs: Any) -> Trials:
    SEEN.clear()
    return Trials(Sees(**kwargs), vocabulary(LABELS), examples(count))  # type: ignore[arg-type]


def test_the_settings_that_draw_what_was_submitted_are_found() -> None:
    proposal = trials(12).propose(START)
    assert proposal.accepted, proposal.reason
    assert (proposal.eta, proposal.lambda_) == (0.4, 0.7)
    assert proposal.held_out is not None
    assert proposal.held_out.after == 1
    assert proposal.held_out.before == pytest.approx(30 / 50)


def test_each_image_is_segmented_once_for_each_setting() -> None:
    tried = trials(12)
    for seed in range(3):
        tried.propose(START, seed=seed)
    settings = {(eta, lambda_, tuple(floors.items())) for eta, lambda_, floors in SEEN}
    assert len(SEEN) <= 12 * len(settings)
    before = len(SEEN)
    tried.propose(START, seed=0)
    assert len(SEEN) == before


def test_where_nothing_is_better_nothing_changes() -> None:
    proposal = trials(12, best=(START.eta, START.lambda_)).propose(START)
    assert not proposal.accepted
    assert (proposal.eta, proposal.lambda_) == (START.eta, START.lambda_)


def test_three_images_are_refused_before_any_is_segmented() -> None:
    proposal = trials(3).propose(START)
    assert "Too few: 3 corrected tasks" in proposal.reason
    assert SEEN == []


def test_lower_thresholds_are_tried_for_every_label() -> None:
    trials(12).propose(START)
    chosen = preset("demo")
    half = round(float(reported(np.array([chosen.theta / 2], np.float32), chosen)[0]), 4)
    assert half > chosen.theta / 2, "on the scale of the scores that people see"
    assert {"cat": half, "dog": half} in [floors for _, _, floors in SEEN]


def test_a_folder_is_read_as_one_project() -> None:
    labels, found = read_folder(SCENES)
    assert len(found) == 30
    assert {"moai", "tokyo tower"} <= set(labels)
    image, masks = found[0].image(), found[0].masks()
    assert image.shape == (320, 384, 3)
    assert set(masks) <= set(labels)
    assert all(mask.shape == (320, 384) and mask.any() for mask in masks.values())


@pytest.mark.parametrize("missing", ["images", "classes.txt"])
def test_a_folder_that_cannot_be_read_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "classes.txt").write_text("cat\n")
    target = tmp_path / missing
    target.rename(tmp_path / "elsewhere")
    assert calibrate_folder.calibrate_folder(argparse.Namespace(folder=tmp_path), Settings()) == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_the_command_on_a_folder(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(calibrate_folder, "read_folder", lambda root: (LABELS, examples(12)))
    monkeypatch.setattr(calibrate_folder, "Segmenter", lambda *_: Sees())
    args = argparse.Namespace(folder=Path(), settings=True, seed=0, seeds=3, json=True, miss_at_most=None)
    assert calibrate_folder.calibrate_folder(args, Settings()) == 0
    found = json.loads(capsys.readouterr().out)
    assert {seed: one["accepted"] for seed, one in found.items()} == {"0": True, "1": True, "2": True}


def test_the_table_shows_each_split_and_their_spread() -> None:
    outcomes = [Outcome(15, 0.5, after, 0.95, 0.1, 0.2) for after in (0.54, 0.56)]
    found = {seed: Proposal(True, "", {}, 15, one, 0.2, 0.7) for seed, one in enumerate(outcomes)}
    shown = as_text(found, 30, 20)
    assert "gain of 2 splits: +0.050, standard deviation 0.014" in shown
    assert "Too few" in as_text({0: Proposal(False, "Too few", {})}, 3, 2)
    nothing = as_text({0: Proposal(False, "", {}, 15, Outcome(15, None, None, None, None, None))}, 30, 20)
    assert nothing.count("none") == 5


def test_masks_of_another_size_than_the_image_are_named() -> None:
    other = Example(7, lambda: np.zeros((20, 20, 3), np.uint8), lambda: {"cat": np.ones((20, 21), bool)})
    with pytest.raises(ProposalError, match="regions of task 7 are of another size"):
        Trials(Sees(), vocabulary(LABELS), [other]).samples(START, [7])  # type: ignore[arg-type]


def test_what_is_found_is_drawn_as_the_project_draws() -> None:
    """The cat's mask has 5 x 6 pixels; a project of squares would draw all of the image."""
    wanted = Example(1, lambda: np.ones((20, 20, 3), np.uint8), lambda: {"cat": np.ones((20, 20), bool)})
    best = Setting(0.4, 0.7, ())
    plain = Trials(Sees(), vocabulary(LABELS), [wanted]).samples(best, [1])  # type: ignore[arg-type]
    boxed = Trials(Sees(), vocabulary(LABELS), [wanted], drawn=np.ones_like).samples(best, [1])  # type: ignore[arg-type]
    assert [(one.predicted, one.common) for one in (plain[0], boxed[0])] == [(30, 30), (400, 400)]
