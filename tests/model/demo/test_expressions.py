from collections.abc import Callable

from model.demo import batches
from model.demo.expressions import SEED, difference, understood
from model.demo.sets import SEEDS
from model.demo.words import Expression
from model.segmenter import Segmenter


def test_expressions_are_compared(segmenter_of: Callable[..., Segmenter]) -> None:
    figures = understood(segmenter_of(), 3)
    assert "true expression beats one with another any" in figures
    assert all(0 <= figure.low <= figure.value <= figure.high <= 1 for figure in figures.values())


def test_their_scenes_are_drawn_for_nothing_else() -> None:
    assert SEED not in {batches.TRAINING, *SEEDS.values()}


def test_in_what_two_expressions_differ() -> None:
    red = Expression(concept=1, color="red", side="left")
    assert difference(red, Expression(concept=1, color="blue", side="left")) == "color"
    assert difference(red, Expression(concept=1, color="red", side="right")) == "side"
    assert difference(red, Expression(concept=2, color="red", side="left")) == "concept"
