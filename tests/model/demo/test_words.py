import random

import pytest

from model.demo import words
from model.demo.words import Expression, Seen, caption, foreign, refer, twisted, vocabulary
from model.demo.world import concepts, grounds

NUMBERS = {concept.name: number for number, concept in enumerate(concepts())}
CAR, BUS, RED_APPLE = NUMBERS["car"], NUMBERS["bus"], NUMBERS["red apple"]
GRASS = len(concepts())
RED_CAR = Seen(CAR, "red", ("left", ""), "large", GRASS)


@pytest.mark.parametrize(
    ("said", "fits"),
    [
        (Expression(concept=CAR), True),
        (Expression(concept=BUS), False),
        (Expression(kind="vehicle"), True),
        (Expression(kind="animal"), False),
        (Expression(concept=CAR, color="red"), True),
        (Expression(concept=CAR, color="blue"), False),
        (Expression(concept=CAR, side="left"), True),
        (Expression(concept=CAR, side="right"), False),
        (Expression(concept=CAR, side="top"), None),
        (Expression(concept=CAR, size="large"), True),
        (Expression(concept=CAR, size="small"), False),
        (Expression(concept=CAR, ground=GRASS), True),
        (Expression(concept=CAR, ground=GRASS + 1), False),
        (Expression(concept=CAR, color="red", side="right"), False),
        (Expression(kind="vehicle", color="red", side="left"), True),
    ],
)
def test_what_is_true_of_a_red_car(said: Expression, fits: bool | None) -> None:
    assert said.fits(RED_CAR) is fits


def test_what_cannot_be_told() -> None:
    plain = Seen(CAR, None, ("", ""), "", None)
    assert Expression(concept=CAR, color="red").fits(plain) is None
    assert Expression(concept=CAR, ground=GRASS).fits(plain) is None
    assert Expression(concept=NUMBERS["green apple"]).fits(Seen(RED_APPLE, None, ("", ""), "", None)) is None


def test_expressions_are_true_and_their_twins_are_not() -> None:
    rng = random.Random(0)
    for _ in range(200):
        said = refer(RED_CAR, rng)
        assert said.fits(RED_CAR) is True
        assert twisted(said, rng).fits(RED_CAR) is not True


def test_expressions_read_like_sentences() -> None:
    rng = random.Random(0)
    whole = Expression(kind="vehicle", color="red", side="left", size="large", ground=GRASS)
    assert whole.text(rng) == "the large red vehicle on the left on the grass"
    assert Expression(kind="animal", side="top").text(rng) == "the animal at the top"


def test_ten_patterns_occur() -> None:
    rng = random.Random(0)
    seen = [RED_CAR, Seen(BUS, None, ("right", "top"), "small", GRASS), Seen(BUS, None, ("", "bottom"), "", None)]
    patterns = set()
    for _ in range(500):
        said = refer(rng.choice(seen), rng)
        patterns.add((bool(said.kind), bool(said.color), said.side, said.size, said.ground is not None))
    assert len(patterns) >= 10


def test_a_word_may_name_two_things() -> None:
    assert vocabulary()["apple"] == {RED_APPLE, NUMBERS["green apple"]}
    assert vocabulary()["meadow"] == {len(concepts()) + list(grounds()).index("grass")}


def test_foreign_words_name_nothing() -> None:
    assert len(foreign()) > 100
    assert not set(foreign()) & set(vocabulary())


def test_captions_name_what_is_seen() -> None:
    rng = random.Random(1)
    for _ in range(50):
        text = caption([CAR, BUS], [GRASS], rng)
        assert any(word in text for word in ("car", "automobile", "bus"))
        assert "{}" not in text


def test_every_class_has_words() -> None:
    assert len(words.classes()) == len(concepts()) + 12
