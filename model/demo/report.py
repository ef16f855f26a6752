"""What the demo CLIP reaches on sets of scenes, each figure with its interval: one table.

An interval holds the middle 95 % of the figure over resampled images (bootstrap, 1,000 times, seeded).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from model.benchmarks import folder
from model.benchmarks.dataset import Dataset, Example
from model.benchmarks.evaluation import measure
from model.benchmarks.records import Record
from model.classifier import Classifier, text_bank
from model.pictures import read_image
from model.segmenter import Segmenter
from model.settings import Preset

RESAMPLED = 1000
RECURRENCES = {"no filter": "none", "one filter": "once", "loop": "loop"}
PROMPTS: tuple[tuple[str, ...], ...] = (("circle",), ("blur",), ("gray",), ("circle", "blur"), ("blur", "gray"))
Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Figure:
    """A figure and its interval; None where nothing was measured."""

    value: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.value is None:
            return "none"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Counts:
    """Pixels of each image by class, background apart: hit, in the truth, in the prediction: [images, classes]."""

    hit: NDArray[np.float64]
    truth: NDArray[np.float64]
    found: NDArray[np.float64]

    @classmethod
    def of(cls, records: Sequence[Record], classes: int) -> "Counts":
        """Add up the records' confusions."""
        parts = np.zeros((3, len(records), classes + 1))
        for row, record in enumerate(records):
            for truth, prediction, pixels in record.confusion:
                parts[1, row, truth] += pixels
                parts[2, row, prediction] += pixels
                if truth == prediction:
                    parts[0, row, truth] += pixels
        hit, true, found = parts[:, :, 1:]
        return cls(hit, true, found)

    def miou(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mIoU when images count so often, [R, images] -> [R]: over the classes that then occur."""
        hit = weights @ self.hit
        union = weights @ (self.truth + self.found) - hit
        iou = np.divide(hit, union, out=np.zeros_like(hit), where=union > 0)
        return quotient(iou.sum(axis=1), (union > 0).sum(axis=1))


def share(right: NDArray[np.float64], of: NDArray[np.float64]) -> Statistic:
    """Return the statistic `right / of`, both counted for each image [images]."""
    return lambda weights: quotient(weights @ right, weights @ of)


def quotient(part: NDArray[np.float64], whole: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return `part / whole`, nan where the whole is nothing."""
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, np.nan), where=np.asarray(whole) > 0))


def figure(statistic: Statistic, images: int, seed: int = 0) -> Figure:
    """Return a statistic of all images, and its interval over the resamples in which there is something to measure."""
    value = float(statistic(np.ones((1, images)))[0]) if images else float("nan")
    if np.isnan(value):
        return Figure(None, None, None)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(images, np.full(images, 1 / images), size=RESAMPLED).astype(np.float64)
    low, high = np.nanquantile(statistic(drawn), (0.025, 0.975))
    return Figure(value, float(low), float(high))


def report(root: Path, segmenter: Segmenter, limit: int | None = None) -> dict[str, Figure]:
    """Measure one set of scenes with the segmenter's preset; return the figures by name."""
    dataset = folder.read(root)
    examples = dataset.examples[:limit]
    present = [_present(example, dataset) for example in examples]
    only = [
        replace(example, queries=tuple(query for query in example.queries if query.label in there))
        for example, there in zip(examples, present, strict=True)
    ]
    base = segmenter.preset
    figures: dict[str, Figure] = {}
    counts: dict[str, Counts] = {}
    for name, recurrence in RECURRENCES.items():
        records = list(_records(segmenter, replace(base, recurrence=recurrence), dataset, examples, name))
        counts[name] = Counts.of(records, len(dataset.classes))
        figures[f"mIoU, {name}"] = figure(counts[name].miou, len(examples))
        if name == "loop":
            figures |= _kept(records, examples, present)
    records = list(_records(segmenter, base, dataset, only, "oracle queries"))
    counts["oracle"] = Counts.of(records, len(dataset.classes))
    figures["mIoU, only present queries"] = figure(counts["oracle"].miou, len(examples))
    loop = counts["loop"].miou
    for name in ("no filter", "one filter"):
        other = counts[name].miou
        figures[f"gain, {name} to loop"] = figure(_difference(loop, other), len(examples))
    oracle = counts["oracle"].miou
    figures["loop / only present queries"] = figure(lambda w: quotient(loop(w), oracle(w)), len(examples))
    for prompts in PROMPTS:
        name = f"true mask named by {' + '.join(prompts)}"
        figures[name] = _named(segmenter, replace(base, prompts=prompts), dataset, examples)
    return figures


def table(columns: Mapping[str, Mapping[str, Figure]]) -> str:
    """Return figures of several sets as a table in Markdown."""
    names = list(dict.fromkeys(name for figures in columns.values() for name in figures))
    rows = [["", *columns], ["---"] * (len(columns) + 1)]
    rows += [[name, *(str(figures[name]) for figures in columns.values())] for name in names]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _difference(first: Statistic, second: Statistic) -> Statistic:
    return lambda weights: first(weights) - second(weights)


def _present(example: Example, dataset: Dataset) -> set[str]:
    return {dataset.classes[number - 1] for number in np.unique(example.truth.read()).tolist() if number}


def _records(
    segmenter: Segmenter, preset: Preset, dataset: Dataset, examples: Sequence[Example], name: str
) -> Iterator[Record]:
    own = segmenter.under(preset)
    for example in tqdm(examples, desc=name, leave=False):
        yield measure(own, dataset, example)[0]


def _kept(records: Sequence[Record], examples: Sequence[Example], present: Sequence[set[str]]) -> dict[str, Figure]:
    """Return which share of the present labels was found, and of the absent ones was not."""
    there = np.array([len(names) for names in present], float)
    absent = np.array([len(example.queries) for example in examples], float) - there
    right = np.array([sum(finding.present for finding in record.findings) for record in records], float)
    wrong = np.array([len(record.findings) for record in records], float) - right
    count = len(examples)
    return {
        "present kept": figure(share(right, there), count),
        "absent removed": figure(share(absent - wrong, absent), count),
    }


def _named(segmenter: Segmenter, preset: Preset, dataset: Dataset, examples: Sequence[Example]) -> Figure:
    """Return how often the image prompted with an object's true mask fits the object's name best among all queries."""
    right, asked = np.zeros(len(examples)), np.zeros(len(examples))
    encoder = segmenter._classifier
    for row, example in enumerate(tqdm(examples, desc=" + ".join(preset.prompts), leave=False)):
        seen = segmenter.open(read_image(example.image)).seen
        truth = cv2.resize(example.truth.read().astype(np.uint16), seen.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        numbers = [dataset.classes.index(query.label) + 1 for query in example.queries]
        there = [place for place, number in enumerate(numbers) if (truth == number).any()]
        masks = [torch.from_numpy(truth == numbers[place]).to(encoder.device) for place in there]
        bank = text_bank(encoder, example.queries, preset.templates).mean(dim=1)
        best = (Classifier(encoder, seen, preset).look(masks) @ bank.T).argmax(dim=1).tolist()
        right[row] = sum(one == place for one, place in zip(best, there, strict=True))
        asked[row] = len(there)
    return figure(share(right, asked), len(examples))
