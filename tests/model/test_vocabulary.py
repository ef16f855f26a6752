import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.vocabulary import Query, VocabularyError, check, fill, vocabulary, without_synonyms, words


def test_a_label_describes_itself() -> None:
    assert vocabulary(["cat", "a red car"]) == (Query("cat", ("cat",)), Query("a red car", ("a red car",)))


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ((), "no labels"),
        (vocabulary(["cat", "dog", "cat"]), "'cat' is given twice"),
        ((Query("cat", ()),), "'cat' has no text"),
        (vocabulary([" "]), "no text"),
    ],
)
def test_wrong_vocabularies(queries: tuple[Query, ...], message: str) -> None:
    with pytest.raises(VocabularyError, match=message):
        check(queries)


@given(st.text(), st.text())
def test_whatever_a_label_contains_stays_as_it_is(before: str, label: str) -> None:
    assert fill(before.replace("{}", "") + "{}.", label).endswith(label + ".")


@pytest.mark.parametrize("label", ["{0}", "{", "{}{}", '"quoted"', "%s", "🐼", "{label!r}"])
def test_braces_quotes_and_emoji(label: str) -> None:
    assert fill("a photo of a {}.", label) == f"a photo of a {label}."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Two Cats", {"two", "cat"}),
        ("cherries", {"cherry"}),
        ("glass", {"glass"}),
        ("buses", {"buse"}),
        ("boxes", {"box"}),
        ("", set()),
    ],
)
def test_words(text: str, expected: set[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("label", "other", "stays"),
    [
        ("car", "car/automobile", False),
        ("automobile", "car/automobile", False),
        ("Cars", "car", False),
        ("sports car", "car", False),
        ("bear", "teddy bear", False),
        ("red heart", "blue heart", True),
        ("cat", "dog", True),
        ("star", "starbucks logo", True),
        ("🐼", "panda", True),
    ],
)
def test_no_label_competes_with_itself(label: str, other: str, stays: bool) -> None:
    assert without_synonyms([other], vocabulary([label])) == ((other.split("/")[0],) if stays else ())


def test_prompts_count_as_the_label() -> None:
    assert without_synonyms(["car", "dog"], [Query("Fahrzeug", ("car", "truck"))]) == ("dog",)
