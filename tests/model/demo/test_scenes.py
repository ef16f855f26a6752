from dataclasses import replace

import numpy as np
import pytest

from model.demo import scenes
from model.demo.grounds import TEXTURES, Canvas, backdrop, leaves, nameless
from model.demo.recipe import WHOLE
from model.demo.scenes import Style, draw, render
from model.demo.sets import PROJECT, TEST
from model.demo.sprites import Atlas, Sprite, atlas
from model.demo.world import concepts

SMALL = Style(height=96, width=96)
BARE = Style(height=6, width=6, worn=False)


def one_sprite(pixels: np.ndarray) -> Atlas:
    return Atlas(((Sprite(0, pixels.astype(np.float32)),), (Sprite(1, pixels.astype(np.float32)),)))


def render_two(points: list[tuple[float, float]], alpha: float = 1.0) -> scenes.Scene:
    """Put 2 x 2 squares, white times the light, on black."""
    square = np.full((2, 2, 4), alpha)
    places = [(number, point, 2.0, 0.0) for number, point in enumerate(points)]
    black, ground = np.zeros((6, 6, 3), np.float32), np.zeros((6, 6), np.uint8)
    return render(np.random.default_rng(4), BARE, one_sprite(square), black, ground, places, stands=False)


def test_a_mask_is_where_the_object_is() -> None:
    scene = render_two([(3, 3), (4, 4)])
    expected = [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 1, 2, 2, 0, 0],
        [0, 0, 2, 2, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    shift = np.argwhere(scene.objects)[0] - [1, 1]
    assert np.roll(scene.objects, tuple(-shift), (0, 1)).tolist() == expected
    assert ((scene.image.max(axis=2) > 100) == (scene.objects > 0)).all()


def test_less_than_half_covered_is_not_the_object() -> None:
    assert not render_two([(3, 3)], alpha=0.4).objects.any()


def test_what_lies_beyond_the_border_is_cut() -> None:
    scene = render_two([(0, 0), (20, 20)])
    assert set(np.unique(scene.objects)) <= {0, 1}
    assert len(scene.placed) == 2


def test_a_varied_drawing_is_as_opaque_and_keeps_the_colour_it_is_called_by() -> None:
    red = np.zeros((8, 6, 4), np.float32)
    red[2:6, :, [0, 3]] = 0.5  # red, half transparent
    for seed in range(20):
        varied = scenes._varied(red, np.random.default_rng(seed), colors=False)
        alpha = varied[..., 3]
        assert alpha.shape[0] <= 8
        assert alpha.shape[1] <= 6
        assert alpha.max() <= 0.5 + 1e-6
        assert np.allclose(varied[..., 0], alpha, atol=2e-3)
        assert not varied[..., 1:3].any()


def test_drawings_are_varied_in_training_only() -> None:
    plain, varied = (draw((9, 1), replace(SMALL, varied=share), atlas()) for share in (0.0, 1.0))
    assert (plain.grounds == varied.grounds).all()
    assert (plain.image != varied.image).any()
    assert PROJECT.varied == TEST.varied == 0
    assert WHOLE.varied > 0


def test_leaves_are_bright_and_dark_and_nowhere_beyond() -> None:
    for seed in range(5):
        texture = leaves(Canvas(np.random.default_rng(seed), 96, 96, 0.75))
        assert texture.shape == (96, 96, 3)
        assert 0 <= texture.min() < texture.max() <= 1
        assert texture.std() > 0.05


def test_the_seed_says_everything() -> None:
    first, again, other = (draw((9, seed), SMALL, atlas()) for seed in (1, 1, 2))
    assert (first.image == again.image).all()
    assert (first.objects == again.objects).all()
    assert first.placed == again.placed
    assert (first.image != other.image).any()


def test_every_object_has_its_concept() -> None:
    for seed in range(6):
        scene = draw((8, seed), replace(SMALL, standing=0.5), atlas())
        assert scene.image.shape == (96, 96, 3)
        assert scene.image.dtype == np.uint8
        assert scene.objects.max() <= len(scene.placed)
        assert all(0 <= placed.concept < len(concepts()) for placed in scene.placed)


def test_wanted_concepts_are_drawn() -> None:
    scene = draw(3, replace(SMALL, smallest=0.2, largest=0.25), atlas(), wanted=(5, 7))
    assert {placed.concept for placed in scene.placed} == {5, 7}


@pytest.mark.parametrize("name", [*TEXTURES, ""])
def test_grounds_have_the_size_asked_for(name: str) -> None:
    canvas = Canvas(np.random.default_rng(0), 40, 72, 0.5)
    texture = TEXTURES[name](canvas) if name else nameless(canvas)
    assert texture.shape == (40, 72, 3)
    assert np.isfinite(texture).all()
    assert texture.std() > 0.005


def test_a_backdrop_tells_where_which_ground_is() -> None:
    for seed in range(8):
        _, numbers, horizon = backdrop(Canvas(np.random.default_rng(seed), 64, 64, 0.5), plain=0.0, single=0.5)
        assert len(np.unique(numbers)) == (2 if horizon else 1)
        assert numbers.min() >= 1
