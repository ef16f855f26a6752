from dataclasses import replace

import numpy as np
import pytest
import torch

from model.demo.batches import Batch, Sample
from model.demo.circles import circled, probe
from model.demo.towers import Look, look
from model.demo.train import fresh

SIDE, PATCHES, BLOCKS, WIDTH = 32, 4, 2, 3
LEFT = np.zeros((SIDE, SIDE), bool)
LEFT[:, :16] = True  # patches 0 and 2 of 0 1 / 2 3
INSIDE = torch.tensor([1.0, 0.0, 1.0, 0.0])


def batch(*circles: np.ndarray | None) -> Batch:
    """Return images about nothing, with these insides of circles."""
    image, objects = np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    samples = tuple(Sample(image, objects, {}, frozenset(), (), {}, None, circle) for circle in circles)
    none = torch.zeros(len(samples))
    return Batch(samples, none, None, none, none, none)


def seen(states: torch.Tensor, attention: torch.Tensor) -> Look:
    """Return a look with the same states [n] in all blocks, and the class token's attention [n]."""
    nothing = torch.zeros(1)
    everywhere = states[None, None, :, None].expand(1, BLOCKS, PATCHES, WIDTH)
    return Look(nothing, nothing, nothing, nothing, nothing, attention.expand(1, 2, PATCHES), everywhere)


@pytest.fixture
def reads() -> torch.nn.Linear:
    """A probe that adds a state up."""
    linear = torch.nn.Linear(WIDTH, 1)
    torch.nn.init.ones_(linear.weight)
    torch.nn.init.zeros_(linear.bias)
    return linear


@pytest.mark.parametrize(
    ("states", "attention", "encircled", "pointing"),
    [
        (20 * INSIDE - 10, INSIDE, 0.0, 0.0),  # all known, all attention inside
        (0 * INSIDE, 0.1 + 0 * INSIDE, np.log(2), np.log(2)),  # nothing known, half of the attention inside
        (-10 * INSIDE, 0.1 + 0 * INSIDE, 15 + np.log(2) / 2, np.log(2)),  # the inside taken for the outside
        (20 * INSIDE - 10, 1 - INSIDE, 0.0, np.log(1000)),  # known, yet attended to the outside
    ],
)
def test_losses_by_hand(
    reads: torch.nn.Linear, states: torch.Tensor, attention: torch.Tensor, encircled: float, pointing: float
) -> None:
    losses = circled(seen(states, attention), batch(LEFT), reads)
    assert losses["encircled"].item() == pytest.approx(encircled, abs=2e-3)
    assert losses["pointing"].item() == pytest.approx(pointing, abs=4e-3)


def test_a_batch_without_circles(reads: torch.nn.Linear) -> None:
    losses = circled(seen(INSIDE, INSIDE), batch(None), reads)
    assert [float(loss.detach()) for loss in losses.values()] == [0, 0]


def test_only_images_with_a_circle_count(reads: torch.nn.Linear) -> None:
    one = seen(20 * INSIDE - 10, INSIDE)
    two = replace(one, glance=torch.cat([one.glance + 1, one.glance]), states=torch.cat([-one.states, one.states]))
    alone, beside = (circled(*args, reads) for args in ((one, batch(LEFT)), (two, batch(None, LEFT))))
    assert alone == beside


def test_the_probe_reads_what_the_tower_shows() -> None:
    model = fresh()
    shown = look(model, torch.randn(2, 3, 64, 64), torch.arange(16).expand(2, 16))
    assert shown.glance.shape == (2, 2, 16)
    assert shown.states.shape == (2, 4, 16, 192)
    assert probe(model)(shown.states).shape == (2, 4, 16, 1)
