from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.corrections.calibration import (
    LEAST_TASKS,
    Sample,
    Table,
    best_thresholds,
    better,
    conformal_cut,
    decide,
    fit_presence,
    halves,
    judged,
    miou,
    propose,
    samples_of,
)
from backend.corrections.presence import Presence
from backend.corrections.proposals import Outcome, Proposal
from backend.corrections.records import Change, Correction


def drawn(task: int, label: str, score: float, right: bool) -> Sample:
    """A region of 100 pixels: submitted as it was, or removed."""
    return Sample(task, label, score, 100, 100 if right else 0, 100 if right else 0)


def world(tasks: int, seed: int = 0, labels: tuple[str, ...] = ("cat", "dog")) -> list[Sample]:
    """Present labels score 0.3 and more, absent ones less, but are drawn all the same in half of the tasks."""
    rng = np.random.default_rng(seed)
    samples = []
    for task in range(tasks):
        for label in labels:
            present = bool(rng.random() < 0.5)
            score = float(rng.uniform(0.3, 0.9) if present else rng.uniform(0.02, 0.28))
            samples.append(drawn(task, label, score, present))
    return samples


def test_miou_is_the_mean_over_labels_of_summed_areas() -> None:
    table = Table.of(
        [
            Sample(1, "cat", 0.9, 4, 4, 2),  # 2 of 6
            Sample(2, "cat", 0.9, 2, 2, 2),  # 2 of 2
            Sample(1, "dog", 0.2, 5, 0, 0),  # 0 of 5
            Sample(1, "cow", 0.0, 0, 0, 0),  # nowhere
        ]
    )
    assert miou(*table.areas({})) == pytest.approx((4 / 8 + 0) / 2)
    assert miou(*table.areas({"dog": 0.3})) == pytest.approx(4 / 8), "without the wrong dog there is only the cat"
    assert miou(*table.areas({"cat": 0.95})) == 0, "a cat that is left out is missed"
    assert table.seen == ("cat", "dog")


def test_wrong_regions_with_low_scores_are_left_out() -> None:
    proposal = propose(world(40), {})
    assert proposal.accepted, proposal.reason
    assert set(proposal.thresholds) == {"cat", "dog"}
    assert all(0.15 < threshold < 0.45 for threshold in proposal.thresholds.values())
    assert proposal.held_out is not None
    assert (proposal.held_out.gain or 0) > 0.2
    assert proposal.held_out.tasks == proposal.fitted == 20


@pytest.mark.parametrize("tasks", [0, 3, LEAST_TASKS - 1])
def test_too_few_tasks_change_nothing(tasks: int) -> None:
    proposal = propose(world(tasks), {})
    assert not proposal.accepted
    assert proposal.thresholds == {}
    assert f"{tasks} corrected tasks, {LEAST_TASKS} are needed" in proposal.reason


def test_perfect_predictions_change_nothing() -> None:
    proposal = propose([drawn(task, "cat", 0.5, True) for task in range(30)], {})
    assert not proposal.accepted
    assert proposal.reason.startswith("No gain")


def test_scores_that_say_nothing_change_nothing() -> None:
    rng = np.random.default_rng(1)
    samples = [drawn(task, "cat", float(rng.uniform(0.1, 0.9)), bool(rng.random() < 0.5)) for task in range(60)]
    assert not propose(samples, {}).accepted


def test_scores_that_mislead_change_nothing() -> None:
    samples = [drawn(task, "cat", 0.2 if task % 2 else 0.8, bool(task % 2)) for task in range(60)]
    assert propose(samples, {}).reason.startswith("Scores do not tell")


@pytest.mark.parametrize(
    ("outcome", "accepted", "words"),
    [
        (Outcome(20, 0.6, 0.7, 0.99, 0.1, 0.1), True, "0.600 -> 0.700"),
        (Outcome(20, 0.6, 0.604, 0.99, 0.1, 0.1), False, "No gain"),
        (Outcome(20, 0.6, 0.5, 0.0, 0.1, 0.1), False, "No gain"),
        (Outcome(20, 0.6, 0.7, 0.85, 0.1, 0.1), False, "Not sure enough"),
        (Outcome(20, 0.0, None, None, None, None), False, "Nothing to measure: mIoU 0.000 -> none on 20"),
        (Outcome(20, None, None, None, None, None), False, "Nothing to measure: mIoU none -> none on 20"),
    ],
)
def test_a_proposal_must_gain_and_be_sure_of_it(outcome: Outcome, accepted: bool, words: str) -> None:
    decided = decide(Proposal(False, "", {"cat": 0.3}, 20, outcome))
    assert decided.accepted is accepted
    assert words in decided.reason


def test_nothing_drawn_and_nothing_submitted_is_no_figure() -> None:
    """It was an mIoU of 1, and a share of 0 that is missed."""
    table = Table.of([Sample(task, "cat", 0.2, 0, 0, 0) for task in range(20)])
    assert miou(*table.areas({})) is None
    assert miou(*Table.of([]).areas({})) is None
    assert judged(table, table, {}, 0) == Outcome(20, None, None, None, None, None)
    assert not propose([Sample(task, "cat", 0.2, 0, 0, 0) for task in range(20)], {}).accepted


def test_wrong_regions_alone_are_no_gain_when_they_go() -> None:
    """20 tasks with nothing but a wrong cat: without it there is nothing that could be measured."""
    samples = [drawn(task, "cat", 0.2, False) for task in range(20)]
    table = Table.of(samples)
    assert (miou(*table.areas({})), miou(*table.areas({"cat": 0.5}))) == (0, None)
    assert judged(table, table, {"cat": 0.5}, 0) == Outcome(20, 0.0, None, None, None, None)
    assert not propose(samples, {}).accepted


@pytest.mark.parametrize(
    ("reached", "value", "expected"),
    [(0.6, 0.5, True), (0.5, 0.5, False), (None, 0.5, False), (0.5, None, False), (None, None, False)],
)
def test_only_what_was_measured_is_better(reached: float | None, value: float | None, expected: bool) -> None:
    assert better(reached, value) is expected


def test_without_scores_no_thresholds_follow() -> None:
    samples = [Sample(task, "cat", 0.0, 100 * (task % 2), 100, 0) for task in range(40)]
    table = Table.of(samples)
    assert fit_presence(table.scores, table.submitted > 0, table.labels) is None
    assert best_thresholds(table, {}) == {}
    for most in (None, 0.5):
        assert propose(samples, {}, miss_at_most=most).thresholds == {}


def test_what_was_not_compared_gives_no_samples() -> None:
    change = (Change("cat", 10, 10, 10, 1.0),)
    known = Correction(1, 1, 1, "v", 1.0, None, (4, 4), change, {"cat": 0.5})
    later = Correction(1, 1, 2, "v", 2.0, None, (0, 0), (), {}, not_compared="broken")
    other = Correction(1, 2, 3, "v", 3.0, None, (0, 0), (), {}, not_compared="broken")
    assert samples_of([known, later, other], "v") == [Sample(1, "cat", 0.5, 10, 10, 10)]


def test_thresholds_never_go_below_what_was_drawn() -> None:
    table = Table.of(world(40))
    assert all(value >= 0.6 for value in best_thresholds(table, {"cat": 0.6, "dog": 0.6}).values())


def test_a_label_seen_rarely_stays_near_the_others() -> None:
    samples = world(60, labels=("cat", "dog", "cow"))
    samples += [drawn(task, "moai", 0.5, False) for task in (1, 2, 3)]
    table = Table.of(samples)
    fitted = fit_presence(table.scores, table.submitted > 0, table.labels)
    assert fitted is not None
    shared = Presence(fitted.slope, fitted.intercept, {}).threshold("moai", 0.5)
    own = fitted.threshold("moai", 0.5)
    assert shared < own < 0.5, "three wrong regions at 0.5 raise its threshold, but not beyond 0.5"


def test_shrinkage_beats_a_label_on_its_own_and_one_for_all() -> None:
    """Labels differ in where their scores part; with few samples each, both neighbours of shrinkage do worse."""
    errors = {prior: _mean_error(prior) for prior in (0.01, 1.0, 100.0)}
    assert errors[1.0] < errors[0.01], "one threshold for all labels"
    assert errors[1.0] < errors[100.0], "each label on its own"


def _mean_error(prior: float) -> float:
    rng = np.random.default_rng(5)
    errors = []
    for _ in range(20):
        offsets = rng.normal(0, 1, 12)
        logits = rng.normal(0, 2, (6, 12))
        present = rng.random((6, 12)) < 1 / (1 + np.exp(-(logits + offsets)))
        scores = 1 / (1 + np.exp(-logits))
        labels = [str(number) for number in range(12)]
        fitted = fit_presence(scores, present, labels, prior)
        assert fitted is not None
        found = np.array([fitted.intercept + fitted.offsets[label] for label in labels]) / fitted.slope
        errors.append(float(np.abs(found - offsets).mean()))
    return float(np.mean(errors))


@given(st.lists(st.tuples(st.floats(0.001, 0.999), st.booleans()), min_size=1, max_size=40))
def test_a_fit_is_always_finite(points: list[tuple[float, bool]]) -> None:
    scores = np.array([[score] for score, _ in points])
    fitted = fit_presence(scores, np.array([[there] for _, there in points]), ["cat"])
    assert fitted is not None
    assert np.isfinite([fitted.slope, fitted.intercept, fitted.offsets["cat"]]).all()
    assert 0 <= fitted.probability("cat", 0.5) <= 1


@given(st.floats(0.02, 0.98), st.floats(0.1, 5), st.floats(-3, 3))
def test_threshold_and_probability_are_inverse(cut: float, slope: float, intercept: float) -> None:
    presence = Presence(slope, intercept, {"cat": 0.25})
    threshold = presence.threshold("cat", cut)
    if 0.001 < threshold < 0.999:
        assert presence.probability("cat", threshold) == pytest.approx(cut, abs=1e-6)


IDENTITY = Presence(1.0, 0.0, {})
"""Scores are probabilities."""


@pytest.mark.parametrize(
    ("tasks", "most", "cut"),
    [
        (8, 0.1, None),  # 1/9 > 0.1 already
        (9, 0.1, 0.3),  # 1/10 is just enough, if nothing is missed: the lowest score is 0.3
        (30, 0.1, 0.4),  # two of thirty may be missed: those of 0.3 and 0.35; the next is 0.4
        (30, 0.5, 0.94),
    ],
)
def test_a_share_of_misses_can_be_promised_with_enough_tasks(tasks: int, most: float, cut: float | None) -> None:
    scores = [0.3, 0.35, *[0.4] * 12, *[0.95] * 16][:tasks]
    table = Table.of([drawn(task, "cat", score, True) for task, score in enumerate(scores)])
    assert conformal_cut(IDENTITY, table, most) == cut


def test_what_scores_nothing_is_missed_at_any_cut() -> None:
    table = Table.of([drawn(task, "cat", 0.9 if task % 2 else 0.0, True) for task in range(40)])
    assert conformal_cut(IDENTITY, table, 0.4) is None


def test_conformal_risk_control_keeps_its_promise() -> None:
    """Monte Carlo: in the mean over many calibrations, new tasks miss no more than was promised."""
    rng = np.random.default_rng(3)
    missed = []
    for _ in range(300):
        scores = rng.beta(2, 2, 30)
        table = Table.of([drawn(task, "cat", float(score), True) for task, score in enumerate(scores)])
        cut = conformal_cut(IDENTITY, table, 0.2)
        assert cut is not None
        missed.append(float((rng.beta(2, 2, 200) < cut).mean()))
    assert np.mean(missed) <= 0.2
    assert np.mean(missed) > 0.1, "and not by keeping everything"


def test_missing_at_most_says_how_many_tasks_it_takes() -> None:
    refused = propose(world(20), {}, miss_at_most=0.05)
    assert not refused.accepted
    assert "19 held-out tasks" in refused.reason
    promised = propose(world(80), {}, miss_at_most=0.2)
    assert promised.accepted
    assert promised.held_out is not None
    assert promised.held_out.missed is not None
    assert promised.held_out.missed <= 0.2


@given(st.sets(st.integers(1, 10**9), max_size=50), st.integers(0, 99))
def test_halves_part_all_tasks(tasks: set[int], seed: int) -> None:
    chose, judge = halves(list(tasks), seed)
    assert sorted(chose + judge) == sorted(tasks)
    assert 0 <= len(judge) - len(chose) <= 1
    assert halves(sorted(tasks, reverse=True), seed) == (chose, judge)


def test_samples_come_from_the_last_correction_of_each_task_and_one_version() -> None:
    def correction(task: int, number: int, version: str = "v") -> Correction:
        changes = (Change("cat", 10, number, 5, 0.5),)
        return Correction(1, task, number, version, float(number), None, (4, 4), changes, {"cat": 0.5, "dog": 0.25})

    found = samples_of([correction(1, 5), correction(2, 6, "another"), correction(1, 7)], "v")
    assert found == [Sample(1, "cat", 0.5, 10, 7, 5), Sample(1, "dog", 0.25, 0, 0, 0)]
