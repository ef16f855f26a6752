"""What is kept of each image: enough to compute every figure, in plain numbers that add up in any order."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.benchmarks.boundary import boundary_f
from model.benchmarks.calibration import Finding
from model.benchmarks.dataset import IGNORE, Dataset, DatasetError, Example
from model.benchmarks.metrics import confusion, jaccard, mean, overlap, quality
from model.segmentation import Segmentation


@dataclass(frozen=True)
class ObjectRecord:
    """One described object: pixels of intersection and union, and in videos the contour accuracy F."""

    label: str
    intersection: int
    union: int
    boundary: float | None = None

    @property
    def iou(self) -> float:
        """Return the IoU; 1 where both masks are empty."""
        return jaccard(self.intersection, self.union)


@dataclass(frozen=True)
class Record:
    """One image's results.

    iou: a figure to sort images by: over its own classes, or objects; None without any. confusion: triples of truth,
    prediction and pixels. findings: the labels found where the truth is known. present: how many of the labels asked
    for are in the image.
    """

    name: str
    seconds: float
    iou: float | None
    confusion: tuple[tuple[int, int, int], ...] = ()
    findings: tuple[Finding, ...] = ()
    present: int = 0
    objects: tuple[ObjectRecord, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return plain data; `from_json` takes it back, with the same numbers."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Record":
        """Make a record of what `as_json` gave. Raises TypeError or KeyError for anything else."""
        return Record(
            **{
                **data,
                "confusion": tuple((int(t), int(p), int(n)) for t, p, n in data["confusion"]),
                "findings": tuple(Finding(**finding) for finding in data["findings"]),
                "objects": tuple(ObjectRecord(**one) for one in data["objects"]),
            }
        )


def compare(dataset: Dataset, example: Example, result: Segmentation) -> Record:
    """Compare a result with the example's ground truth. Raises DatasetError where their sizes differ."""
    truth = example.truth.read()
    size = result.masks.shape[1:]
    if truth.shape[-2:] != size:
        raise DatasetError(
            f"The ground truth of {example.image} is {truth.shape[-2:]}, the image is {size} (height, width)."
        )
    seconds = float(result.seconds["total"])
    if dataset.task == "labels":
        return _labels(dataset, example, result, truth.astype(np.uint16), seconds)
    masks = dict(zip(result.labels, result.masks, strict=True))
    nothing = np.zeros(size, bool)
    objects = tuple(
        _object(query.label, real.astype(bool), masks.get(query.label, nothing), dataset.task == "video")
        for query, real in zip(example.queries, truth, strict=True)
    )
    return Record(example.name, seconds, mean([one.iou for one in objects]), objects=objects)


def index_of(result: Segmentation, labels: Sequence[str]) -> NDArray[np.uint16]:
    """Return an index map [H, W] of what was found: 0, or the label's place from 1 up."""
    from model.pictures import index_map

    return index_map(result, labels)


def _labels(
    dataset: Dataset, example: Example, result: Segmentation, truth: NDArray[np.uint16], seconds: float
) -> Record:
    matrix = confusion(truth, index_of(result, dataset.classes), len(dataset.classes) + 1, IGNORE)
    pairs = [(int(t), int(p), int(matrix[t, p])) for t, p in np.argwhere(matrix)]
    place = {label: number for number, label in enumerate(dataset.classes, start=1)}
    there = set(np.unique(truth).tolist())
    return Record(
        name=example.name,
        seconds=seconds,
        iou=quality(matrix, background=dataset.background).miou,
        confusion=tuple(pairs),
        findings=tuple(_findings(result, truth, place)),
        present=sum(place[query.label] in there for query in example.queries),
    )


def _findings(result: Segmentation, truth: NDArray[np.uint16], place: Mapping[str, int]) -> list[Finding]:
    """Compare each label found with the ground truth, where that is known; elsewhere it is neither right nor wrong."""
    known = truth != IGNORE
    findings = []
    for label, score, mask in zip(result.labels, result.scores.tolist(), result.masks, strict=True):
        there = truth == place[label]
        inside, union = overlap(there, mask & known)
        if union:
            findings.append(Finding(score, bool(there.any()), inside / union))
    return findings


def _object(label: str, real: NDArray[np.bool_], drawn: NDArray[np.bool_], video: bool) -> ObjectRecord:
    return ObjectRecord(label, *overlap(real, drawn), boundary_f(real, drawn) if video else None)
