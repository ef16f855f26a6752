from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.__main__ import main
from model.pictures import read_image
from model.presets import DEMO, preset
from model.visualize import Look, Story, Watched, chosen, picture, shortened
from model.vocabulary import vocabulary
from tests.weights import CLIP

SCENE = DEMO / "scenes" / "studio" / "images" / "004.png"
LABELS = ["bus", "dog", "violin"]


@pytest.fixture(scope="module")
def story() -> Story:
    """A bus and a dog; the violin is not there, and is drawn all the same, once."""
    return Watched(preset("demo", {"presence": "0"}), "cpu", str(CLIP)).tell(
        read_image(SCENE)[80:320, 120:320], vocabulary(LABELS)
    )


def test_a_story_tells_each_pass(story: Story) -> None:
    first, last = story.passes[0], story.passes[-1]
    assert [look.label for look in first] == LABELS
    assert [look.label for look in last if look.kept] == list(story.result.labels) == ["bus", "dog"]
    assert not next(look for look in first if look.label == "violin").kept
    assert story.absent == ()
    for look in (*first, *last):
        assert look.soft.shape == (15, 13)
        assert 0 <= look.soft.min() <= look.soft.max() <= 1
        assert look.shown.shape == (256, 256, 3)
        assert 0 <= look.score <= 1
    kept = tuple((look.label, pytest.approx(look.score)) for look in last if look.kept)
    assert tuple(zip(story.result.steps[-1].queries, story.result.steps[-1].scores, strict=True)) == kept


def test_labels_that_are_not_drawn_are_told() -> None:
    watched = Watched(preset("demo", {"presence": "0.3", "rivals": ""}), "cpu", str(CLIP))
    story = watched.tell(read_image(SCENE)[80:320, 120:320], vocabulary(LABELS))
    assert "violin" in story.absent
    assert set(story.absent) | {look.label for look in story.passes[0]} == set(LABELS)


def test_a_picture_of_it(story: Story, tmp_path: Path) -> None:
    picture(story).savefig(tmp_path / "story.png", dpi=40)
    drawn = read_image(tmp_path / "story.png")
    assert drawn.shape[0] > 200
    assert drawn.std() > 10
    taller = replace(story, passes=(*story.passes, story.passes[-1]))
    assert picture(taller).get_figheight() > picture(story).get_figheight()


def look(label: str, score: float, kept: bool) -> Look:
    return Look(label, np.zeros((1, 1), np.float32), np.zeros((2, 2, 3), np.uint8), score, kept)


def test_the_longest_lived_have_columns(story: Story) -> None:
    first = [look(str(number), number / 20, kept=number in (3, 15)) for number in range(20)]
    second = [look("3", 0.9, kept=True), look("15", 0.1, kept=False)]
    columns, others = chosen(replace(story, passes=(tuple(first), tuple(second))))
    assert columns == ["3", "15", "19", "18", "17", "16", "14", "13"]
    assert len(others) == 12


def test_many_names_are_shortened() -> None:
    assert shortened(["a", "b"], 2) == "a, b"
    assert shortened(["a", "b", "c", "d"], 2) == "a, b and 2 more"


def test_nothing_found_is_a_picture_too(story: Story, tmp_path: Path) -> None:
    result = replace(story.result, labels=(), masks=story.result.masks[:0], scores=story.result.scores[:0])
    picture(Story(story.image, (), tuple(LABELS), result)).savefig(tmp_path / "nothing.png", dpi=40)
    assert (tmp_path / "nothing.png").stat().st_size > 1000


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "how.png"
    code = main(["visualize", str(SCENE), "--labels", "bus, dog", "--out", str(out), "--set", "rivals="])
    assert code == 0
    assert out.is_file()
    assert "found: bus, dog" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.png", "--labels", "cat"], "missing.png"),
        ([str(SCENE), "--labels", " , "], "no labels"),
        ([str(SCENE), "--labels", "cat,cat"], "given twice"),
    ],
)
def test_wrong_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["visualize", *arguments]) == 2
    assert message in capsys.readouterr().err
