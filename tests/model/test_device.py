"""On a GPU nothing comes back in between: checked without one, on torch's fake tensors that only know where they are.

Whoever mixes tensors of two devices, or asks a fake tensor for a number, gets an error. What is computed is the same
code as on a CPU, which the other tests check by its results.
"""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from model.boxes import ROUNDS, box_masks
from model.encoder import Encoder
from model.pictures import read_image
from model.prompts import Prompter, lines
from model.proposals import affinity, spread
from model.segmenter import Segmenter
from model.views import by_torch, views
from model.vocabulary import vocabulary


@pytest.fixture(scope="module")
def encoder(segmenter_of: Callable[..., Segmenter]) -> Encoder:
    """The demo CLIP, loaded before anything is fake."""
    return segmenter_of()._proposals


@pytest.fixture
def card() -> Iterator[torch.device]:
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield torch.device("cuda:0")


def test_a_number_cannot_be_asked_for(card: torch.device) -> None:
    with pytest.raises(DataDependentOutputException):
        torch.zeros(2, device=card).amax().item()
    with pytest.raises(RuntimeError, match="devices"):
        torch.zeros(2, device=card) + torch.zeros(2)


@pytest.mark.parametrize("view", ["crop", "letterbox", "squash"])
def test_prompted_pictures_stay_on_the_card(card: torch.device, view: str) -> None:
    image = np.zeros((37, 50, 3), np.uint8)
    masks = torch.zeros(3, 37, 50, dtype=torch.bool, device=card)
    pictures = Prompter(image, ("blur", "gray"), device=card)([masks[0], None, masks[2]])
    shown = views(pictures, [None] * 3, 22, view, 0.5)
    assert shown.device == card
    assert shown.shape == (3, 22, 22, 3)


def test_only_circles_ask_where_masks_lie(card: torch.device) -> None:
    masks = torch.zeros(3, 37, 50, dtype=torch.bool, device=card)
    assert lines(masks, ("blur", "black")) is None
    with pytest.raises(DataDependentOutputException):
        lines(masks, ("circle",))


def test_maps_are_spread_on_the_card(card: torch.device) -> None:
    between = affinity(torch.zeros(20, 20, device=card))
    boxes = torch.zeros(3, 20, dtype=torch.bool, device=card)
    assert spread(torch.zeros(3, 20, device=card), boxes, between, "target").device == card


def test_boxes_ask_once_in_eight_rounds_whether_they_are_done(
    card: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(torch, "equal", lambda ours, _: bool(asked.append(ours.device)) or len(asked) == 2)
    assert box_masks(torch.zeros(3, 4, 5, device=card), 0.5, "cut").device == card
    assert asked == [card, card]
    assert ROUNDS == 8


def test_masks_as_a_gpu_would_make_them(
    segmenter_of: Callable[..., Segmenter], studio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scene whose pictures torch resizes: every number is the same."""
    segmenter, image = segmenter_of(), read_image(studio / "images" / "002.png")
    queries = vocabulary(["cat", "pizza", "firefox logo"])
    here = segmenter.segment(image, queries)
    monkeypatch.setattr("model.views.by_pillow", by_torch)
    there = segmenter.segment(image, queries)
    assert there.raw_scores == here.raw_scores
    assert here.labels
    np.testing.assert_array_equal(there.masks, here.masks)


def moved(encoder: Encoder, card: torch.device) -> Encoder:
    """Return a copy of an encoder whose numbers are on a card."""
    model = encoder._model
    memo = {id(one): torch.empty_like(one, device=card) for one in (*model.buffers(), encoder._mean, encoder._std)}
    memo |= {id(one): torch.nn.Parameter(torch.empty_like(one, device=card), False) for one in model.parameters()}
    memo |= {id(encoder._positions): {}, id(encoder._texts): {}}
    copied = copy.deepcopy(encoder, memo)
    copied.device = card
    return copied


def test_towers_and_gradients_stay_on_the_card(
    encoder: Encoder, card: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.gradient._slope", lambda _, hidden: torch.zeros_like(hidden))  # autograd needs a card
    with torch.no_grad():
        there = moved(encoder, card)
        pixels = there.scaled(torch.zeros(1, 48, 64, 3, dtype=torch.uint8, device=card))
        trunk = there.trunk(pixels)
        assert trunk.attention.device == there.images(pixels).device == card
        directions = torch.zeros(3, len(trunk.last.feature), device=card)
        assert trunk.last.gradients(directions).shape == (3, trunk.tokens.shape[1])
