"""The data sets by name: which splits and settings belong to each, and the reader of its official layout."""

import csv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from model.benchmarks import ade, coco, context, davis, folder, refcoco, voc
from model.benchmarks.dataset import Dataset, DatasetError
from model.vocabulary import Query

READERS: Mapping[str, Callable[[Path, str], Dataset]] = {
    "folder": lambda root, _: folder.read(root),
    "voc": voc.read,
    "voc20": partial(voc.read, background=False),
    "context": context.read,
    "context59": partial(context.read, background=False),
    "coco-object": coco.read,
    "ade": ade.read,
    "ade847": ade.read_full,
    "refcoco": partial(refcoco.read, name="refcoco"),
    "refcoco+": partial(refcoco.read, name="refcoco+"),
    "refcocog": partial(refcoco.read, name="refcocog"),
    "ref-davis": davis.read,
}


@dataclass(frozen=True)
class Entry:
    """A data set that can be evaluated.

    splits: the first is meant where none is named. preset, settings: those its published figures belong to. layout:
    where its files lie below the root. source: where they come from.
    """

    name: str
    title: str
    splits: tuple[str, ...]
    preset: str
    settings: Mapping[str, str]
    layout: str
    source: str


@cache
def entries() -> Mapping[str, Entry]:
    """Return every data set by its name."""
    with (Path(__file__).parent / "datasets.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {
        row["name"]: Entry(
            row["name"],
            row["title"],
            tuple(row["splits"].split()),
            row["preset"],
            dict(pair.split("=") for pair in row["settings"].split()),
            row["layout"],
            row["source"],
        )
        for row in rows
    }


def entry(name: str) -> Entry:
    """Return a data set's entry. Raises DatasetError with the names there are."""
    if name not in entries():
        raise DatasetError(f"There is no data set {name!r}; there are: {', '.join(entries())}.")
    return entries()[name]


def read(name: str, root: Path, split: str | None = None, queries: Iterable[Query] = ()) -> Dataset:
    """Read a data set's lists, not yet its pictures. Raises DatasetError.

    split: by default the one that is published. queries: texts to search labels by, instead of the data set's own.
    """
    known = entry(name)
    split = split or known.splits[0]
    if split not in known.splits:
        raise DatasetError(f"{name} has no split {split!r}; there are: {', '.join(known.splits)}.")
    dataset = READERS[name](root, split)
    instead = {query.label: query for query in queries}
    if not instead:
        return dataset
    examples = (
        replace(example, queries=tuple(instead.get(query.label, query) for query in example.queries))
        for example in dataset.examples
    )
    return replace(dataset, examples=tuple(examples))
