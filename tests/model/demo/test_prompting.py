import numpy as np
import pytest
import torch

from model.demo import prompting
from model.prompts import Prompter

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 200, (64, 64, 3), dtype=np.uint8)
MASK = np.zeros((64, 64), bool)
MASK[20:40, 16:48] = True


@pytest.mark.parametrize("kind", prompting.KINDS)
def test_prompts_are_the_products(kind: tuple[str, ...]) -> None:
    expected = Prompter(IMAGE, kind)([torch.from_numpy(MASK)])[0].numpy()
    assert (prompting.prompt(IMAGE, MASK, kind) == expected).all()


def redness(picture: np.ndarray) -> float:
    """Sum up how much redder than before the picture is: a line's length times its thickness."""
    return float((picture[..., 0].astype(int) - picture[..., 1:].max(axis=2)).clip(0).sum())


def test_a_line_on_a_larger_image_is_fainter() -> None:
    black = np.zeros_like(IMAGE)
    near, far = (redness(prompting.prompt(black, MASK, ("circle",), zoom)) for zoom in (1.0, 2.0))
    assert 0.4 < far / near < 0.6


def test_the_inside_of_a_circle() -> None:
    inside = prompting.encircled(MASK)
    line = prompting.prompt(np.zeros_like(IMAGE), MASK, prompting.CIRCLE)[..., 0] > 0
    assert inside[30, 32]
    assert inside[line].all()
    assert not inside[20, 16]  # a corner of the mask's box
    assert inside.sum() == pytest.approx(np.pi * 10 * 16, rel=0.12)
    assert not prompting.encircled(np.zeros_like(MASK)).any()


def test_the_inside_of_a_circle_at_the_border() -> None:
    corner = np.zeros_like(MASK)
    corner[:20, :20] = True
    assert prompting.encircled(corner)[10, 10]
    assert prompting.encircled(corner).sum() == pytest.approx(np.pi * 10 * 10, rel=0.12)


def test_stray_parts_are_not_encircled() -> None:
    stray = MASK.copy()
    stray[:4, :4] = True
    assert (prompting.touching(stray, MASK) == MASK).all()
    assert (prompting.touching(stray & ~MASK, MASK) == MASK).all()


def test_kinds_and_shares_belong_together() -> None:
    assert len(prompting.KINDS) == len(prompting.SHARES)
    assert sum(prompting.SHARES) == pytest.approx(1)


def test_coarse_masks_stay_near() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        changed = prompting.coarse(MASK, rng)
        assert changed.dtype == np.bool_
        assert (changed & MASK).sum() > 0.3 * MASK.sum()


def test_a_box_anywhere_is_inside() -> None:
    mask = prompting.anywhere((64, 48), np.random.default_rng(3))
    assert mask.shape == (64, 48)
    assert 0 < mask.mean() < 0.1
