from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.mutual import runs
from model.pictures import read_image
from model.presets import preset
from model.segmenter import Segmenter
from model.vocabulary import Query

CAT, DOG = Query("cat", ("cat", "kitten")), Query("dog", ("dog",))
SKY, GRASS = Query("sky", ("sky",), stuff=True), Query("grass", ("grass",), stuff=True)
MIXED = (SKY, CAT, GRASS, DOG)
BASE = replace(preset("voc"), background=("wall",), prompts=("circle",), stuff_prompts=("gray",))


@pytest.mark.parametrize(
    ("mutual", "stuff", "things"),
    [
        ("released", ("cat", "kitten", "dog"), ("wall",)),
        ("paper", ("wall", "cat", "kitten", "dog"), ("wall", "sky", "grass")),
    ],
)
def test_each_is_the_other_s_background(mutual: str, stuff: tuple[str, ...], things: tuple[str, ...]) -> None:
    first, second = runs(MIXED, replace(BASE, mutual=mutual))
    assert (first.rows, first.preset.background, first.preset.prompts) == ((0, 2), stuff, ("gray",))
    assert (second.rows, second.preset.background, second.preset.prompts) == ((1, 3), things, ("circle",))


@pytest.mark.parametrize(
    ("queries", "mutual"), [(MIXED, "none"), ((CAT, DOG), "released"), ((SKY, GRASS), "paper"), ((CAT,), "paper")]
)
def test_one_run_where_there_is_one_kind(queries: tuple[Query, ...], mutual: str) -> None:
    chosen = replace(BASE, mutual=mutual)
    (only,) = runs(queries, chosen)
    assert only.rows == tuple(range(len(queries)))
    assert only.preset == chosen


def test_stuff_has_the_things_prompts_unless_it_has_its_own() -> None:
    assert runs(MIXED, replace(BASE, mutual="paper", stuff_prompts=()))[0].preset.prompts == ("circle",)


@pytest.mark.parametrize("mutual", ["released", "paper"])
def test_things_lie_on_stuff(segmenter_of: Callable[..., Segmenter], studio: Path, mutual: str) -> None:
    """The trunk runs once; the things are where they are without stuff, and the stuff has what is left."""
    image = read_image(studio / "images" / "002.png")
    ground = Query("snow", ("snowy ground",), stuff=True)
    sky = Query("sky", ("sky",), stuff=True)
    things = [Query(label, (label,)) for label in ("starbucks logo", "cat")]
    settings = {"theta": "0.01", "presence": "0", "rivals": ""}
    result = segmenter_of("demo", {"mutual": mutual, **settings}).segment(image, [ground, *things, sky])
    assert result.masks.sum(axis=0).max() == 1
    assert set(result.labels) >= {"snow", "starbucks logo", "cat"}
    assert list(result.raw_scores) == ["snow", "starbucks logo", "cat", "sky"]
    if mutual == "released":  # the things' background is the usual one, so that stuff changes nothing for them
        alone = segmenter_of("demo", settings).segment(image, things)
        np.testing.assert_array_equal(result.masks[result.labels.index("cat")], alone.masks[alone.labels.index("cat")])
    assert {"texts", "trunk", "proposals", "classifier", "masks", "total"} == set(result.seconds)
