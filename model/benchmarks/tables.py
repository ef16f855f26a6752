"""The paper's tables: what it prints, what others print, and what was measured here, each in a column of its own.

The printed figures are files in `tables/`, read from the paper (arXiv 2312.07661v3); `peers.tsv` has later methods with
the protocol and source of each. A figure of our own comes from a results folder or is not there.
"""

import csv
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from model.benchmarks.dataset import DatasetError
from model.benchmarks.datasets import entry
from model.benchmarks.figures import Tally
from model.benchmarks.plans import settings_for
from model.benchmarks.results import Results, Setup
from model.presets import Preset, PresetError

FOLDER = Path(__file__).parent / "tables"
PEERS_IN = ("1", "J")


@dataclass(frozen=True)
class Cell:
    """One figure of a table: the paper's, in per cent, and how to measure it where a reader exists.

    settings: what differs from the preset of the data set.
    """

    row: str
    column: str
    paper: str
    dataset: str
    split: str
    metric: str
    settings: Mapping[str, str]

    def preset(self, base: Mapping[str, str] = {}) -> Preset:
        """Return its settings; `base` holds changes for the whole table. Raises PresetError."""
        return settings_for(self.dataset, None, {**base, **self.settings})

    def command(self, base: Mapping[str, str], extra: Sequence[str] = (), folder: bool = False) -> str:
        """Return the command that measures it, on its data set or with the same settings on a folder."""
        known = entry(self.dataset)
        changes = {**(known.settings if folder else {}), **base, **self.settings}
        data = [self.dataset, *(["--split", self.split] if self.split != known.splits[0] else [])]
        chosen = ["folder", "--preset", known.preset] if folder else data
        sets = [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
        return shlex.join(["python", "-m", "model", "evaluate", *chosen, *sets, *extra])


@dataclass(frozen=True)
class Table:
    """A table of the paper."""

    name: str
    title: str
    note: str
    cells: tuple[Cell, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns in the paper's order, which the fullest row has."""
        rows = [[cell.column for cell in self.cells if cell.row == row] for row in {cell.row for cell in self.cells}]
        return tuple(dict.fromkeys(column for row in sorted(rows, key=len, reverse=True) for column in row))

    @property
    def measurable(self) -> tuple[Cell, ...]:
        """Return the cells that can be measured here."""
        return tuple(cell for cell in self.cells if cell.dataset)


@dataclass(frozen=True)
class Measured:
    """One run's figures: its description, and how many of the data set's images they are over."""

    setup: Setup
    figures: Mapping[str, Any] = field(repr=False)

    @staticmethod
    def of(run: Results, protocol: str = "default") -> "Measured":
        """Add up the records of a run."""
        tally = Tally(run.setup.scheme(protocol))
        for record in run.records().values():
            tally.add(record)
        return Measured(run.setup, tally.figures())

    def told(self, metric: str) -> str:
        """Return a figure in per cent with what it was measured on, or nothing where there is none."""
        images = int(self.figures["images"])
        if not images or self.figures.get(metric) is None:
            return ""
        whole = f"{images} images" if images == self.setup.images else f"{images} of {self.setup.images} images"
        weights = f", weights {self.setup.weights}" if self.setup.weights else ""
        return f"{100 * self.figures[metric]:.1f} ({self.setup.title}, {whole}{weights})"


@cache
def titles() -> Mapping[str, tuple[str, str]]:
    """Return title and note of each table there is."""
    return {row["table"]: (row["title"], row["note"] or "") for row in _rows(FOLDER / "titles.tsv")}


def table(name: str) -> Table:
    """Return a table: 1 to 8, I or J. Raises DatasetError."""
    name = name.upper()
    if name not in titles():
        raise DatasetError(f"There is no table {name!r}; there are: {', '.join(titles())}.")
    cells = []
    for row in _rows(FOLDER / f"{name}.tsv"):
        settings = dict(pair.partition("=")[::2] for pair in row.pop("settings").split())
        cells.append(Cell(**row, settings=settings))
    return Table(name, *titles()[name], tuple(cells))


def peers(columns: Iterable[str]) -> list[dict[str, str]]:
    """Return later methods that have a figure in one of the columns."""
    wanted = tuple(columns)
    return [row for row in _rows(FOLDER / "peers.tsv") if any(row.get(column) for column in wanted)]


def found(cell: Cell, runs: Sequence[Measured], base: Mapping[str, str] = {}) -> list[str]:
    """Return what was measured with a cell's settings, on its data set or on a folder of one's own."""
    try:
        checksum = cell.preset(base).checksum
    except PresetError:
        return []
    own = (cell.dataset, cell.split)
    same = (run for run in runs if run.setup.preset_checksum == checksum)
    fitting = (run for run in same if (run.setup.dataset, run.setup.split) == own or run.setup.dataset == "folder")
    return [told for told in (run.told(cell.metric) for run in fitting) if told]


def markdown(shown: Table, runs: Sequence[Measured], base: Mapping[str, str] = {}) -> str:
    """Write a table: what is printed where other methods are in it, then the cells that can be measured here."""
    parts = [f"# Table {shown.name}: {shown.title}", shown.note]
    others = [cell for cell in shown.cells if not cell.dataset]
    if others:
        parts += ["Printed in the paper (per cent):", _wide(shown)]
    if shown.name in PEERS_IN:
        parts += ["Printed by others since; protocols differ, so that a point or two mean nothing:", _peers(shown)]
    lines = [
        [cell.row, cell.column, cell.paper or "-", "; ".join(found(cell, runs, base)) or "-"]
        for cell in shown.measurable
    ]
    parts += ["Measured here (per cent; - where no results are):", _grid(["", "", "paper", "here"], lines)]
    return "\n\n".join(part for part in parts if part)


def _wide(shown: Table) -> str:
    values = {(cell.row, cell.column): cell.paper for cell in shown.cells}
    rows = dict.fromkeys(cell.row for cell in shown.cells)
    return _grid(
        ["", *shown.columns], [[row, *(values.get((row, column)) or "-" for column in shown.columns)] for row in rows]
    )


def _peers(shown: Table) -> str:
    columns = [column for column in shown.columns if column in _rows(FOLDER / "peers.tsv")[0]]
    lines = [
        [row["method"], row["models"], *(row[column] or "-" for column in columns), row["protocol"], row["source"]]
        for row in peers(columns)
    ]
    return _grid(["", "models", *columns, "protocol", "source"], lines)


def _grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head))]

    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([row(head), row(["-" * width for width in widths]), *map(row, lines)])


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))
