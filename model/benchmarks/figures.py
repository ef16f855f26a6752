"""Records added up to the figures that papers print, and that `python -m model evaluate --json` writes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.benchmarks.calibration import Finding, calibration_error, reliability
from model.benchmarks.dataset import Task
from model.benchmarks.metrics import Quality, mean, quality, referring, shown
from model.benchmarks.records import ObjectRecord, Record


@dataclass(frozen=True)
class Scheme:
    """How records of a data set are added up; see `Dataset`. protocol: `default`, or `car` for the released rule."""

    task: Task
    classes: tuple[str, ...]
    background: bool
    protocol: str = "default"


@dataclass
class Tally:
    """A sum over the records added so far; what comes of it does not depend on their order."""

    scheme: Scheme
    _matrix: NDArray[np.int64] = field(init=False)
    _records: dict[str, Record] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._matrix = np.zeros((len(self.scheme.classes) + 1,) * 2, np.int64)

    def add(self, record: Record) -> None:
        """Add one image's record."""
        self._records[record.name] = record
        for truth, prediction, pixels in record.confusion:
            self._matrix[truth, prediction] += pixels

    def running(self) -> str:
        """Return the main figure so far, for a progress bar."""
        if self.scheme.task == "labels":
            return f"mIoU {shown(self._quality().miou)}"
        ious = [one.iou for record in self._records.values() for one in record.objects]
        return f"mIoU {shown(mean(ious))}"

    def figures(self) -> dict[str, Any]:
        """Return all figures; for labels those that the README of the command promises, else those of the task.

        A figure of nothing is None: the mIoU over no class, the precision of no finding.
        """
        records = [self._records[name] for name in sorted(self._records)]
        own = {"labels": self._of_labels, "objects": _of_objects, "video": _of_video}[self.scheme.task](records)
        return {**own, "images": len(records), "seconds": float(sum(record.seconds for record in records))}

    def _quality(self) -> Quality:
        return quality(self._matrix, self.scheme.protocol, self.scheme.background)

    def _of_labels(self, records: Sequence[Record]) -> dict[str, Any]:
        figures = self._quality()
        findings: list[Finding] = [finding for record in records for finding in record.findings]
        right = sum(finding.present for finding in findings)
        present = sum(record.present for record in records)
        table = reliability(findings)
        titles = ("background", *self.scheme.classes)
        return {
            "miou": figures.miou,
            "miou_with_background": figures.miou_with_background,
            "precision": right / len(findings) if findings else None,
            "recall": right / present if present else None,
            "calibration_error": calibration_error(table),
            "reliability": [asdict(row) for row in table],
            "per_class": {titles[c]: iou for c, iou in figures.per_class.items()},
        }


def _of_objects(records: Sequence[Record]) -> dict[str, Any]:
    objects = [one for record in records for one in record.objects]
    figures = referring([(one.intersection, one.union) for one in objects])
    precision = {str(least): share for least, share in figures.precision.items()}
    return {"miou": figures.miou, "oiou": figures.oiou, "precision_at": precision, "objects": len(objects)}


def _of_video(records: Sequence[Record]) -> dict[str, Any]:
    """Average an object's frames, then the objects, as DAVIS does; `per_video` has the means of a video's objects."""
    frames: dict[tuple[str, str], list[ObjectRecord]] = defaultdict(list)
    for record in records:
        for one in record.objects:
            frames[record.name.rpartition(".")[0], one.label].append(one)
    means = {
        key: (mean([one.iou for one in ones]), mean([one.boundary for one in ones if one.boundary is not None]))
        for key, ones in frames.items()
    }
    videos = sorted({video for video, _ in means})
    per_video = {name: _means([own for (video, _), own in means.items() if video == name]) for name in videos}
    every = _means(list(means.values()))
    return {
        "j_and_f": _half_way(every),
        **every,
        "objects": len(means),
        "per_video": per_video,
        "miou": every["j"],
    }


def _means(objects: Sequence[tuple[float | None, float | None]]) -> dict[str, float | None]:
    """Average J and F over objects."""
    return {
        "j": mean([j for j, _ in objects if j is not None]),
        "f": mean([f for _, f in objects if f is not None]),
    }


def _half_way(means: Mapping[str, float | None]) -> float | None:
    j, f = means["j"], means["f"]
    return None if j is None or f is None else (j + f) / 2
