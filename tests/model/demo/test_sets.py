from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.benchmarks import folder
from model.demo import batches, photographs
from model.demo.project import VOCABULARY
from model.demo.sets import QUERIES, SEEDS, SETS, classes, index, write
from model.demo.world import HERE, concepts


@pytest.mark.parametrize("name", ["test", "test2", "project", "expressions"])
@pytest.mark.parametrize("number", [0, 39])
def test_the_shipped_scenes_are_what_the_command_draws(name: str, number: int) -> None:
    """JPEG decoders differ by a grey value or two; masks and queries are exact."""
    task = SETS[name](number)
    root = HERE / "scenes" / name
    with Image.open(root / "masks" / f"{number:03d}.png") as mask:
        assert (np.asarray(mask) == index(task, classes(name))).all()
    assert (root / "queries" / f"{number:03d}.txt").read_text().split("\n")[:-1] == list(task.queries)
    with Image.open(root / "images" / f"{number:03d}.jpg") as image:
        apart = np.abs(np.asarray(image).astype(int) - task.scene.image)
    assert apart.mean() < 6


@pytest.mark.parametrize("name", ["test", "test2"])
def test_what_the_shipped_scenes_ask_for(name: str) -> None:
    dataset = folder.read(HERE / "scenes" / name)
    assert len(dataset.examples) == 40
    for example in dataset.examples:
        there = {dataset.classes[number - 1] for number in np.unique(example.truth.read()) if number}
        asked = {query.label for query in example.queries}
        assert len(asked) == QUERIES
        assert there <= asked
        assert 1 <= len(there) <= 5


def test_no_seed_is_used_twice() -> None:
    owners = [batches.TRAINING, *SEEDS.values()]
    assert len(set(owners)) == len(owners)


def test_a_photograph_never_shows_what_is_asked_for() -> None:
    for number in range(6):
        task = SETS["test2"](number)
        rng = np.random.default_rng((SEEDS["test2"], 0, number, 2))
        photograph, _ = photographs.ground(rng, 64)
        assert not photograph.shows & set(task.queries)


def test_names_of_photographs_are_concepts() -> None:
    names = {concept.name for concept in concepts()}
    assert all(photograph.shows <= names for photograph in photographs.PHOTOGRAPHS)


def test_project_has_one_vocabulary() -> None:
    task = SETS["project"](0)
    assert task.scene.image.shape == (480, 640, 3)
    assert task.queries == VOCABULARY
    shown = {concepts()[placed.concept].name for placed in task.scene.placed}
    assert shown <= set(VOCABULARY)
    assert len(VOCABULARY) == len(set(VOCABULARY)) == 20
    assert set(VOCABULARY) <= {concept.name for concept in concepts()}


@pytest.mark.parametrize("number", range(6))
def test_expressions_ask_for_colors_that_are_there_and_not_there(number: int) -> None:
    task = SETS["expressions"](number)
    things = [called.split(" ", 1)[1] for called in task.called]
    assert len(set(things)) == 2 < len(things)
    there = set(task.called) & set(task.queries)
    absent = set(task.queries) - set(task.called)
    assert there
    assert absent
    assert {query.split(" ", 1)[1] for query in absent} == set(things)
    assert set(task.queries) <= set(classes("expressions"))


def test_a_set_is_a_folder_that_can_be_evaluated(tmp_path: Path) -> None:
    assert len(list(write("tune", tmp_path, 2))) == 2
    dataset = folder.read(tmp_path)
    assert [example.name for example in dataset.examples] == ["000", "001"]
    assert len(dataset.examples[0].queries) == QUERIES
    assert len(dataset.classes) == len(concepts())
