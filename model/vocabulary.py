"""Words: the labels an image is searched for, the texts that describe them, and the texts they compete with.

Imports without torch, so that the web process can use it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_WORD = re.compile(r"\w+")


class VocabularyError(ValueError):
    """The labels cannot be searched for; the message says which and why."""


@dataclass(frozen=True)
class Query:
    """One label and the texts that describe it; what several texts (synonyms) are is the setting `synonyms`.

    stuff: it has no shape of its own, like sky or grass; see `model.mutual`.
    """

    label: str
    prompts: tuple[str, ...]
    stuff: bool = False


def vocabulary(labels: Iterable[str]) -> tuple[Query, ...]:
    """Turn plain labels into queries that are described by the label itself, in the given order."""
    return tuple(Query(label, (label,)) for label in labels)


def check(queries: Sequence[Query]) -> None:
    """Raise VocabularyError unless there is at least one query, all have texts, and no label comes twice."""
    if not queries:
        raise VocabularyError("There are no labels to look for: give at least one.")
    seen: set[str] = set()
    for query in queries:
        if query.label in seen:
            raise VocabularyError(f"The label {query.label!r} is given twice: labels must differ.")
        if not query.prompts or not all(prompt.strip() for prompt in query.prompts):
            raise VocabularyError(f"The label {query.label!r} has no text that describes it, or an empty one.")
        seen.add(query.label)


def fill(template: str, text: str) -> str:
    """Put `text` in the place of the template's `{}`. Braces and whatever else the text contains stay as they are."""
    return template.replace("{}", text)


def plain(sentence: str) -> str:
    """Write a sentence as the released code reads it: in lower case, without quotes and slashes."""
    return sentence.lower().replace('"', "").replace("/", "").strip()


def words(text: str) -> frozenset[str]:
    """Return the words of a text, case-folded and without a plural's ending, for comparison only."""
    return frozenset(_singular(word) for word in _WORD.findall(text.casefold()))


def without_synonyms(others: Iterable[str], queries: Sequence[Query]) -> tuple[str, ...]:
    """Take out the texts that say the same as some query, since a label must not compete with itself.

    An entry of `others` is one text, or several synonyms with slashes between. It goes when one of its texts has the
    same words as a query's label or prompt, or all the words of it and more, or fewer ("car" goes for "sports car").
    The result holds the first text of each entry that stays.
    """
    own = [words(text) for query in queries for text in (query.label, *query.prompts)]

    def clashes(entry: str) -> bool:
        theirs = [words(text) for text in entry.split("/")]
        return any(a and b and (a <= b or b <= a) for a in own for b in theirs)

    return tuple(entry.split("/")[0].strip() for entry in others if not clashes(entry))


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word
