"""A measurement that somebody wants: a data set, settings, and how much of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from model.benchmarks.datasets import entry, read
from model.benchmarks.evaluation import Load, evaluate
from model.benchmarks.results import Results, setup_of
from model.presets import Preset, preset
from model.segmenter import Segmenter
from model.vocabulary import Query


@dataclass(frozen=True)
class Plan:
    """What to measure. root: the data set's files. split, limit: None means the published one, and all of it.

    queries: texts to search labels by, instead of the data set's own. weights, device: as for `Segmenter`.
    """

    dataset: str
    root: Path
    preset: Preset
    split: str | None = None
    weights: str | None = None
    device: str | None = None
    queries: Sequence[Query] = ()
    limit: int | None = None
    protocol: str = "default"
    workers: int = 1

    def measure(self, parent: Path, load: Load | None = None, quiet: bool = False) -> tuple[Results, dict[str, Any]]:
        """Measure into a results folder; return the run and its figures. load: instead of loading the weights."""
        dataset = read(self.dataset, self.root, self.split, self.queries)
        results = Results(parent, setup_of(dataset, self.root, self.preset, self.weights))
        load = load or partial(Segmenter, self.preset, self.device, self.weights)
        return results, evaluate(dataset, load, results, self.limit, self.protocol, self.workers, quiet)


def settings_for(dataset: str, name: str | None = None, overrides: Mapping[str, str] = {}) -> Preset:
    """Return a data set's settings: those its published figures belong to, or a preset's, then the changes to them.

    Raises DatasetError, PresetError.
    """
    known = entry(dataset)
    return preset(name or known.preset, {**known.settings, **overrides})
