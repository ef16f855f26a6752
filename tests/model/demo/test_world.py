from collections import Counter

import numpy as np

from model.demo.sprites import atlas, turned
from model.demo.world import COLORS, HERE, concepts, grounds


def test_the_shipped_weights_know_all_concepts() -> None:
    shipped = [line.split("\t") for line in (HERE / "concepts.txt").read_text(encoding="utf-8").splitlines()]
    assert shipped == [[concept.name, ", ".join(concept.words)] for concept in concepts()]


def test_the_first_concepts_keep_their_names() -> None:
    first = (HERE / "scenes" / "val" / "classes.txt").read_text(encoding="utf-8").splitlines()
    assert [concept.name for concept in concepts()][:140] == first


def test_how_much_there_is() -> None:
    kinds = Counter(concept.kind for concept in concepts())
    names = [concept.name for concept in concepts()]
    assert len(names) == len(set(names)) >= 200
    assert kinds["landmark"] >= 20
    assert kinds["brand"] >= 30
    assert len(grounds()) == 12


def test_everything_can_be_drawn() -> None:
    assert len(atlas().drawable) == len(concepts())
    assert len(atlas("atlas-test").drawable) >= 200
    for concept, sprites in zip(concepts(), atlas().drawings, strict=True):
        assert {sprite.color for sprite in sprites} == ({None, *COLORS} if concept.tints else {None})


def test_colors_are_multiplied_by_alpha() -> None:
    for sprites in atlas().drawings:
        for sprite in sprites:
            assert sprite.pixels.dtype == np.float32
            assert (sprite.pixels[..., :3] <= sprite.pixels[..., 3:] + 1e-6).all()


def test_turning_changes_one_hue_only() -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[0], pixels[1] = (200, 20, 20, 255), (128, 128, 128, 255)
    red, green, blue = turned(pixels, COLORS["blue"])[0, 0, :3].tolist()
    assert blue > 150
    assert blue > green > red
    assert turned(pixels, COLORS["blue"])[1].tolist() == pixels[1].tolist()
