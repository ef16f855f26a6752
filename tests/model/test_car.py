"""The recurrence on stages that answer from a table."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.car import Outcome, Texts, clip_as_rnn, masks_of, survivors
from model.presets import preset
from model.prompts import Mask

BASE = replace(preset("demo"), theta=0.5, presence=0.1, first_template="{}", later_template="{}", rivals=())


class Stages:
    """Draws a map whose height is the text's number; scores a text by a table: its fit among those that compete."""

    def __init__(self, table: dict[tuple[int, ...], list[float]], empty: Sequence[int] = ()) -> None:
        self.table, self.empty = table, empty
        self.calls: list[tuple[int, ...]] = []
        self.shares = [1.0, 1.0, 1.0]

    def presence(self, texts: torch.Tensor, background: torch.Tensor) -> np.ndarray:
        return np.array(self.shares[: len(texts)])

    def propose(self, texts: torch.Tensor, background: torch.Tensor, wanted: Sequence[int]) -> torch.Tensor:
        numbers = [int(texts[i, 0]) for i in wanted]
        return torch.stack([torch.full((2, 2), 0.0 if n in self.empty else 0.8 + n / 100) for n in numbers])

    def score(
        self, masks: Sequence[Mask | None], bank: torch.Tensor, wanted: Sequence[int], alive: Sequence[int]
    ) -> np.ndarray:
        names = tuple(int(row[0, 0]) for row in bank)
        self.calls.append(names)
        scores = dict(zip(names, self.table[names], strict=True))
        return np.array([scores[names[i]] for i in wanted], np.float32)


def run(stages: Stages, count: int, **settings: object) -> Outcome:
    numbers = torch.arange(count, dtype=torch.float32)[:, None]
    texts = Texts(numbers, numbers, numbers[:0], numbers[:, None], numbers[:0, None])
    chosen = replace(BASE, **settings)  # type: ignore[arg-type]
    return clip_as_rnn(stages, stages, texts, (8, 8), chosen, np.full(count, chosen.theta, np.float32))


CHAIN = {(0, 1, 2): [0.9, 0.4, 0.6], (0, 2): [0.9, 0.3], (0,): [0.8]}


@pytest.mark.parametrize(
    ("recurrence", "calls", "found"),
    [
        ("loop", [(0, 1, 2), (0, 2), (0,)], (0,)),
        ("once", [(0, 1, 2), (0, 2)], (0, 2)),
        ("none", [(0, 1, 2)], (0, 1, 2)),
    ],
)
def test_how_often_is_filtered(recurrence: str, calls: list[tuple[int, ...]], found: tuple[int, ...]) -> None:
    stages = Stages(CHAIN)
    outcome = run(stages, 3, recurrence=recurrence)
    assert stages.calls == calls
    assert outcome.survivors == found
    assert len(outcome.maps) == len(found)


def test_dropped_queries_keep_their_last_score() -> None:
    outcome = run(Stages(CHAIN), 3)
    np.testing.assert_allclose(outcome.scores, [0.8, 0.4, 0.3])
    assert [alive for alive, _ in outcome.passes] == [(0, 2), (0,), (0,)]
    assert outcome.passes[0][1] == pytest.approx((0.9, 0.6))


def test_maps_are_those_of_the_last_pass() -> None:
    np.testing.assert_allclose(run(Stages({(0, 1): [0.1, 0.9], (1,): [0.7]}), 2).maps[0], 0.81)


def test_a_pass_that_could_change_nothing_is_not_made() -> None:
    stages = Stages({(0, 1): [0.9, 0.9]})
    run(stages, 2)
    assert len(stages.calls) == 1


def test_the_released_code_passes_twice_at_least_since_its_texts_change() -> None:
    stages = Stages({(0, 1): [0.9, 0.9]})
    run(stages, 2, later_template="a clean origami {}.")
    assert len(stages.calls) == 2


def test_what_the_whole_image_does_not_answer_to_is_not_drawn() -> None:
    stages = Stages({(0, 2): [0.9, 0.8]})
    stages.shares = [0.5, 0.05, 0.45]
    outcome = run(stages, 3)
    assert outcome.survivors == (0, 2)
    assert outcome.scores[1] == 0
    stages.shares = [0.0, 0.0, 0.0]
    assert run(stages, 3).survivors == ()


def test_all_may_be_dropped() -> None:
    outcome = run(Stages({(0, 1): [0.2, 0.3]}), 2)
    assert outcome.survivors == ()
    assert outcome.maps.shape[0] == 0


def test_the_released_code_keeps_the_best() -> None:
    stages = Stages({(0, 1): [0.2, 0.3], (1,): [0.1]})
    assert run(stages, 2, keep_best="yes").survivors == (1,)


def test_empty_maps_are_dropped_or_stand_for_the_whole_image() -> None:
    table = {(0, 1): [0.9, 0.9], (1,): [0.9]}
    assert run(Stages(table, empty=[0]), 2).survivors == (1,)
    assert run(Stages(table, empty=[0]), 2, empty_map="whole").survivors == (0, 1)


@pytest.mark.parametrize(
    ("scores", "keep_best", "expected"),
    [
        ([0.5, 0.51, 0.9], "no", [1, 2]),  # strictly more than theta
        ([0.1, 0.2, 0.0], "no", []),
        ([0.1, 0.2, 0.0], "yes", [1]),
    ],
)
def test_survivors(scores: list[float], keep_best: str, expected: list[int]) -> None:
    half = np.full(3, 0.5, np.float32)
    assert survivors(np.array(scores, np.float32), half, keep_best) == expected


def test_masks_of() -> None:
    maps = torch.tensor([[[0.0, 1.0]], [[0.0, 0.0]], [[0.4, 0.4]]])
    mask, empty, low = masks_of(maps, (1, 4), replace(BASE, eta=0.5))
    assert mask is not None
    assert mask.tolist() == [[False, False, True, True]]
    assert empty is low is None
    _, empty, low = masks_of(maps, (1, 4), replace(BASE, eta=0.5, empty_map="whole"))
    assert empty is None
    assert low is not None
    assert not low.any()
