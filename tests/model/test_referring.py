from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.pictures import read_image
from model.presets import preset
from model.referring import OneByOne, merged, refer
from model.segmenter import Segmenter
from model.vocabulary import Query, VocabularyError, plain

A = np.array([[1, 1, 0, 0]], bool)
B = np.array([[0, 1, 1, 0]], bool)
SPECK = np.eye(1, 40, dtype=bool)


@pytest.mark.parametrize(
    ("rule", "masks", "scores", "expected"),
    [
        ("weighted", [A, B], [0.9, 0.1], A),
        ("weighted", [A, B], [0.5, 0.5], A | B),
        ("weighted", [A, B, B], [0.3, 0.3, 0.3], B),
        ("weighted", [A], [0.2], A),
        ("weighted", [A, B], [0.0, 0.0], A | B),
        ("weighted", [SPECK, ~SPECK], [0.9, 0.1], SPECK | ~SPECK),  # what they agree on is 2.5 % of the image
        ("union", [A, B], [0.9, 0.1], A | B),
        ("best", [A, B], [0.1, 0.9], B),
    ],
)
def test_how_sentences_merge(rule: str, masks: list[np.ndarray], scores: list[float], expected: np.ndarray) -> None:
    np.testing.assert_array_equal(merged(masks, np.array(scores, np.float32), rule), expected)


@given(
    st.lists(st.integers(0, 2**12 - 1), min_size=1, max_size=4),
    st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4),
    st.sampled_from(["weighted", "union", "best"]),
)
def test_a_merged_mask_lies_within_the_union(numbers: list[int], scores: list[float], rule: str) -> None:
    masks = [np.array([n >> i & 1 for i in range(12)], bool).reshape(3, 4) for n in numbers]
    result = merged(masks, np.array(scores[: len(masks)], np.float32), rule)
    assert not (result & ~np.any(masks, axis=0)).any()
    assert not (np.all(masks, axis=0) & ~result).any()


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [('The "red" Apple', "the red apple"), ("cat/dog ", "catdog"), ("left man", "left man")],
)
def test_sentences_are_read_as_released(sentence: str, expected: str) -> None:
    assert plain(sentence) == expected


class Draws:
    """Remembers what was asked; a text's map shows its number, its share is one in all that compete."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, list[int]]] = []

    def presence(self, texts: torch.Tensor, background: torch.Tensor) -> np.ndarray:
        return np.full(len(texts), 1 / (len(texts) + len(background)))

    def propose(self, texts: torch.Tensor, background: torch.Tensor, wanted: Sequence[int]) -> torch.Tensor:
        self.asked.append((len(texts), len(background), list(wanted)))
        return torch.full((len(wanted), 1, 1), float(texts[wanted[0], 0]))


def test_each_sentence_is_drawn_alone() -> None:
    draws = Draws()
    alone = OneByOne(draws)
    maps = alone.propose(torch.arange(3.0)[:, None], torch.zeros(2, 1), [0, 2])
    assert maps.flatten().tolist() == [0.0, 2.0]
    assert draws.asked == [(1, 2, [0]), (1, 2, [0])]
    assert alone.presence(torch.zeros(3, 1), torch.zeros(1, 1)).tolist() == [0.5] * 3


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    from model.presets import DEMO

    return read_image(DEMO / "scenes" / "val" / "images" / "036.png")


def test_expressions_on_the_demo_clip(segmenter_of: Callable[..., Segmenter], scene: np.ndarray, studio: Path) -> None:
    """Colours are told apart where the demo CLIP has learnt the pair; each mask is its expression's alone."""
    from model.benchmarks import folder
    from model.presets import DEMO

    objects = [
        Query("fruit", ("the red apple", "an apple that is red")),
        Query("other fruit", ("the green apple",)),
        Query("games", ("the playstation logo",)),
        Query("car", ("the green car",)),
    ]
    result = refer(segmenter_of("demo"), scene, objects)
    scores = result.raw_scores
    assert list(scores) == ["fruit", "other fruit", "games", "car"]
    assert scores["other fruit"] < 0.5 < 0.8 < scores["fruit"]
    assert scores["games"] > 0.8
    assert "car" not in result.labels
    dataset = folder.read(DEMO / "scenes" / "val")
    example = next(e for e in dataset.examples if e.name == "036")
    truth = example.truth.read() == dataset.classes.index("red apple") + 1
    assert (result.masks[0] & truth).sum() / (result.masks[0] | truth).sum() > 0.7
    assert result.steps[0].queries[0].endswith(("red apple", "is red"))


def test_released_rule_scores_whole_sentences_in_every_pass(
    segmenter_of: Callable[..., Segmenter], scene: np.ndarray
) -> None:
    """Released: single characters from the second pass on, the same scores for any image. Here: what fits stays."""
    settings = {"weights": "demo", "theta": "0.3"}
    segmenter = segmenter_of("refcoco", settings)
    result = refer(segmenter, scene, [Query("it", ("the playstation logo", "the violin"))])
    assert result.labels == ("it",)
    assert len(result.steps) >= 2
    assert all(step.queries == ("the playstation logo",) for step in result.steps)
    assert preset("refcoco").keep_best == "yes"


def test_an_expression_that_finds_nothing_leaves_the_others_in_place(
    segmenter_of: Callable[..., Segmenter], scene: np.ndarray
) -> None:
    objects = [Query("a", ("the elephant",)), Query("b", ("the playstation logo",))]
    result = refer(segmenter_of("demo"), scene, objects)
    alone = refer(segmenter_of("demo"), scene, objects[1:])
    assert result.labels == alone.labels == ("b",)
    np.testing.assert_array_equal(result.masks, alone.masks)
    assert result.raw_scores["a"] < result.scores[0]
    assert refer(segmenter_of("demo"), scene, objects, {"b": 1.1}).labels == ()


@pytest.mark.parametrize(
    ("objects", "message"),
    [([], "no labels"), ([Query("a", ("/",))], "no text"), ([Query("a", (" ",))], "no text")],
)
def test_wrong_expressions(
    segmenter_of: Callable[..., Segmenter], scene: np.ndarray, objects: list[Query], message: str
) -> None:
    with pytest.raises(VocabularyError, match=message):
        refer(segmenter_of("demo"), scene, objects)
