"""The curves of a training: losses, and how often the best name is right, over steps."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.demo.losses import WEIGHTS


def read(progress: Path) -> dict[str, NDArray[np.float64]]:
    """Read `progress.tsv`: its columns."""
    with progress.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {name: np.array([float(row[name]) for row in rows]) for name in (rows[0] if rows else {})}


def draw(progress: Path, picture: Path) -> None:
    """Draw the curves, smoothed over five reports."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = read(progress)
    figure = Figure(figsize=(12, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.set_prop_cycle(color=colormaps["tab20"](range(20)))  # more lines than the usual colours
    for name in ("loss", *WEIGHTS):
        left.plot(columns["step"], smooth(columns[name]), label=name, linewidth=2 if name == "loss" else 1)
    for name, label in (("right", "plain images"), ("right_prompted", "prompted images")):
        right.plot(columns["step"], smooth(columns[name]), label=label)
    left.set(xlabel="step", ylabel="loss")
    right.set(xlabel="step", ylabel="best name is right", ylim=(0, 1))
    for axes in (left, right):
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=110)


def smooth(values: NDArray[np.float64], width: int = 5) -> NDArray[np.float64]:
    """Average each value with those before it, `width` at most, leaving out what is not a number."""
    return np.array([_mean(values[max(0, i + 1 - width) : i + 1]) for i in range(len(values))])


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
