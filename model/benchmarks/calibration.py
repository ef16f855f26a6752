"""Whether a score of 0.8 is right in eight cases of ten: the reliability diagram, as a table of bins."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bin:
    """Labels found with a score in [low, high): how many, their mean score, and the share that is right.

    present: the label is in the image. drawn: its mask and the ground truth overlap by an IoU of half or more.
    """

    low: float
    high: float
    count: int
    score: float
    present: float
    drawn: float


@dataclass(frozen=True)
class Finding:
    """One label found in one image: its score, and the IoU of its mask with the ground truth, 0 where it is absent."""

    score: float
    present: bool
    iou: float


def reliability(findings: Sequence[Finding], bins: int = 10) -> list[Bin]:
    """Sort findings into equal bins of 0..1 (the last one holds 1); empty bins are left out."""
    table = []
    for number in range(bins):
        inside = [finding for finding in findings if min(int(finding.score * bins), bins - 1) == number]
        if inside:
            count = len(inside)
            table.append(
                Bin(
                    low=number / bins,
                    high=(number + 1) / bins,
                    count=count,
                    score=sum(finding.score for finding in inside) / count,
                    present=sum(finding.present for finding in inside) / count,
                    drawn=sum(finding.iou >= 0.5 for finding in inside) / count,
                )
            )
    return table


def calibration_error(table: Sequence[Bin]) -> float | None:
    """Return the expected calibration error: how far scores are from the share of present labels, on average.

    None without any finding.
    """
    total = sum(row.count for row in table)
    return sum(row.count * abs(row.score - row.present) for row in table) / total if total else None
