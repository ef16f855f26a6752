"""The benchmarks' class lists: each class with its label, the text it is searched by, and whether it is stuff.

The texts are those of the released code (`clip_as_rnn/data/*.py` of google-research, Apache-2.0), typing errors and
all ("sknowboard"): they are part of the published numbers.
Imports without torch.
"""

import csv
from pathlib import Path

from model.vocabulary import Query

_FOLDER = Path(__file__).parent / "classes"
CLASS_LISTS = tuple(sorted(path.stem for path in _FOLDER.glob("*.tsv")))


class ClassListError(ValueError):
    """There is no class list of that name; the message names those there are."""


def class_list(name: str) -> tuple[Query, ...]:
    """Return a benchmark's classes as queries, in the order of its class indices (1, 2, ...; 0 is the background)."""
    if name not in CLASS_LISTS:
        raise ClassListError(f"There is no class list {name!r}; there are: {', '.join(CLASS_LISTS)}.")
    with (_FOLDER / f"{name}.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return tuple(Query(row["label"], (row["prompt"],), row["kind"] == "stuff") for row in rows)
