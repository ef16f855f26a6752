import random

import numpy as np
import torch

from model.demo.batches import Pool, batch
from model.demo.losses import found, pairs, referred, spread, texts
from model.demo.scenes import Style
from model.demo.sprites import atlas
from model.demo.world import concepts

STYLE = Style(height=128, width=128, zoom=2.0)


def pool(end: int = 8) -> Pool:
    made = Pool(atlas(), STYLE, seed=0, size=8)
    made.forward(end)
    return made


def test_a_pool_holds_the_newest_scenes() -> None:
    walked = pool()
    walked.forward(12)
    jumped = pool(12)
    assert len(walked.scenes) == len(jumped.scenes) == 8
    assert all((a.image == b.image).all() for a, b in zip(walked.scenes, jumped.scenes, strict=True))


def test_a_batch_follows_from_its_step() -> None:
    first, again, other = (batch(pool(), step, 6, 64) for step in (3, 3, 4))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert first.images.shape == (6, 64, 64, 3)
    assert first.positions is not None
    assert first.positions.shape == (6, 16)
    assert int(first.positions.max()) < 256


def test_patches_of_small_images_keep_their_order() -> None:
    positions = batch(pool(), 3, 6, 64).positions
    assert positions is not None
    rows, columns = (part.view(6, 4, 4) for part in (positions // 16, positions % 16))
    assert (rows == rows[:, :, :1]).all()
    assert (columns == columns[:, :1]).all()
    assert (rows[:, :, 0].diff(dim=1) > 0).all()
    assert (columns[:, 0].diff(dim=1) > 0).all()


def test_weights_say_what_is_seen() -> None:
    made = batch(pool(), 0, 48, 128)
    for row, sample in enumerate(made.samples):
        named = set(torch.nonzero(made.weights[row, : len(concepts())])[:, 0].tolist())
        if sample.target is None:
            assert named == set(sample.visible.values())
        else:
            assert named == ({sample.visible[sample.target]} if sample.target else set())
        for number in sample.visible:
            assert (sample.objects == number).any()
    assert 0 < len(made.clean) < 48


def test_texts_know_what_they_name() -> None:
    made = batch(pool(), 0, 8, 128)
    chosen = texts(made, random.Random(0))
    assert len(chosen.captions) == len(made.clean)
    assert len(chosen.said) == len(chosen.expressions)
    assert (chosen.fits.diagonal() == 1).all()


def test_spread_is_cross_entropy_for_one_right_text() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]])
    wanted = torch.tensor([1, 1])
    shares = torch.nn.functional.one_hot(wanted, 3).float()
    expected = torch.nn.functional.cross_entropy(logits, wanted)
    assert torch.isclose(spread(logits, shares, torch.tensor([True, True])), expected)
    assert spread(logits, shares, torch.tensor([False, False])) == 0


def test_losses_without_anything_to_say_are_zero() -> None:
    assert pairs(torch.zeros(0, 0)) == 0
    assert referred(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool), torch.zeros(2, 0, dtype=torch.bool)) == 0
    assert np.isclose(float(found(torch.eye(2) * 50, torch.eye(2))), 0)


def test_pure_circles_tell_their_inside() -> None:
    made = batch(pool(), 0, 48, 128, circled=0.25)
    circles = [sample for sample in made.samples if sample.encircled is not None]
    assert 3 < len(circles) < 24
    for sample in circles:
        assert sample.target
        assert (sample.objects == sample.target)[sample.encircled].any()
        assert 0 < sample.encircled.mean() < 1
