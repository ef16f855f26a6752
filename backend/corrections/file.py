"""The report as one HTML file that needs nothing else: figures, plots, and the worst tasks with their pictures."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from backend.corrections.comparison import ComparisonError, union_masks
from backend.corrections.proposals import Kept
from backend.corrections.records import Correction, compared
from backend.corrections.report import Report
from backend.images.fetcher import ImageError, fetcher_of
from backend.labeling.parsing import ConfigError, LabelingConfig, parse_config, pictures
from backend.pages import TEMPLATES
from backend.pages.base import task_link
from backend.provenance import shows_still
from backend.settings import Settings
from backend.studio.client import Studio, StudioError

log = logging.getLogger(__name__)

SIDE = 480
"""Pixels of the longer side of a picture."""
COMMON, TAKEN_AWAY, ADDED = (70, 160, 255), (230, 60, 50), (40, 180, 90)
"""Colours (RGB) of what both have, of what annotators took away, and of what they added."""


def write_html(
    path: Path,
    found: Report,
    corrections: Sequence[Correction],
    proposal: Kept | None,
    studio: Studio,
    settings: Settings,
) -> None:
    """Write the report; a task whose picture cannot be had is listed without. Raises OSError."""
    pictures = {one.annotation: _picture(one, studio, settings) for one in found.worst}
    template = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True).get_template("corrections_file.html")
    text = template.render(
        found=found,
        proposal=proposal,
        pictures=pictures,
        plots=_plots(found, corrections),
        link=lambda task: task_link(settings, found.project, task),
    )
    path.write_text(text, encoding="utf-8")


def _plots(found: Report, corrections: Sequence[Correction]) -> list[str]:
    """The plots that have something to show."""
    known = compared(corrections)
    plots = [plot_labels(found)] if found.labels else []
    plots += [plot_scores(known)] if any(one.scores for one in known) else []
    return plots + ([plot_days(found)] if len(found.days) > 1 else [])


def plot_labels(found: Report) -> str:
    """Mean IoU of each label with its 95 % interval, as SVG."""
    rows = [(row.label, row.iou.value, row.iou.low, row.iou.high) for row in found.labels]
    known = sorted((value, low, high, label) for label, value, low, high in rows if None not in (value, low, high))
    figure = Figure(figsize=(7, 1.2 + 0.28 * len(known)), layout="constrained")
    axes = figure.subplots()
    values, lows, highs = np.array([row[:3] for row in known], float).reshape(-1, 3).T
    axes.barh(range(len(known)), values, xerr=[values - lows, highs - values], color="#7aa7d9", ecolor="#444")
    axes.set_yticks(range(len(known)), [row[3] for row in known])
    axes.set_xlim(0, 1)
    axes.set_xlabel("mean IoU, predicted beside submitted")
    return _svg(figure)


def plot_scores(corrections: Sequence[Correction]) -> str:
    """How scores are distributed where annotators submitted the label, and where they did not, as SVG."""
    scores: dict[bool, list[float]] = {True: [], False: []}
    for one in corrections:
        submitted = {change.label for change in one.changes if change.submitted}
        for label, score in one.scores.items():
            scores[label in submitted].append(score)
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.subplots()
    bins = np.linspace(0, 1, 26).tolist()
    axes.hist([scores[True], scores[False]], bins, color=["#28b45a", "#e63c32"], label=["submitted", "not submitted"])
    axes.set_yscale("symlog")
    axes.set_xlabel("score of a label, dropped ones included")
    axes.set_ylabel("tasks")
    axes.legend()
    return _svg(figure)


def plot_days(found: Report) -> str:
    """Mean IoU and the share accepted, day by day, as SVG."""
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.subplots()
    days = [day.day for day in found.days]
    ious = [float("nan") if day.iou is None else day.iou for day in found.days]
    axes.plot(days, ious, marker="o", label="mean IoU")
    axes.plot(days, [day.accepted for day in found.days], marker="o", label="submitted as predicted")
    axes.set_ylim(0, 1.02)
    axes.tick_params(axis="x", rotation=60)
    axes.legend()
    return _svg(figure)


def overlays(
    image: NDArray[np.uint8],
    predicted: Mapping[str, NDArray[np.bool_]],
    submitted: Mapping[str, NDArray[np.bool_]],
) -> NDArray[np.uint8]:
    """The image [H, W, 3] three times, side by side, `SIDE` pixels along the longer side: predicted, submitted, change.

    The first two show all masks, bool [H, W]; the third what both have, what was taken away, and what was added.
    """
    share = min(1.0, SIDE / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * share)), max(1, round(image.shape[0] * share)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    nothing = np.zeros(image.shape[:2], bool)
    scaled = [
        {label: _scaled(masks.get(label, nothing), size) for label in {*predicted, *submitted}}
        for masks in (predicted, submitted)
    ]
    before, after = (np.logical_or.reduce([*masks.values(), np.zeros(small.shape[:2], bool)]) for masks in scaled)
    changed = small.copy()
    for label in scaled[0]:
        ours, theirs = scaled[0][label], scaled[1][label]
        for mask, colour in ((ours & theirs, COMMON), (ours & ~theirs, TAKEN_AWAY), (theirs & ~ours, ADDED)):
            changed = _tinted(changed, mask, colour)
    return np.hstack([_tinted(small, before, COMMON), _tinted(small, after, COMMON), changed])


def _scaled(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    return np.asarray(cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA) > 127)


def _tinted(image: NDArray[np.uint8], mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    tinted = image.copy()
    tinted[mask] = (0.45 * image[mask] + 0.55 * np.array(colour)).astype(np.uint8)
    return tinted


def _picture(correction: Correction, studio: Studio, settings: Settings) -> str:
    """A correction's overlays as a data URI; empty, with the reason in the log, when something of it is missing."""
    fetcher = fetcher_of(settings, studio.authorization)
    try:
        config = _config(studio, settings, correction.project)
        task = studio.task(correction.task, correction.project) or {}
        if not shows_still(task, correction.project, config, correction.fingerprint):
            raise ComparisonError("the task is gone or shows another image now")
        annotations, predictions = task.get("annotations") or (), task.get("predictions") or ()
        submitted = [one["result"] for one in annotations if one["id"] == correction.annotation] or [[]]
        predicted = [one["result"] for one in predictions if one.get("model_version") == correction.version] or [[]]
        before, after = (union_masks(one, settings.car_max_pixels) for one in (predicted[-1], submitted[0]))
        places = {(one.tag, one.page or 0): one.address for one in pictures(config, task.get("data"))}
        drawn = []
        for place in [place for place in places if place in {**before, **after}] or list(places)[:1]:
            image = fetcher.fetch(places[place], correction.task)
            drawn.append(overlays(image, before.get(place, {}), after.get(place, {})))
    except (StudioError, ConfigError, ImageError, ComparisonError) as error:
        log.warning("task %s is shown without its picture: %s", correction.task, error)
        return ""
    buffer = io.BytesIO()
    Image.fromarray(_below_each_other(drawn)).save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _below_each_other(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures [H, W, 3] of any width, one below the other on white."""
    wide = max(picture.shape[1] for picture in pictures)
    padded = [np.pad(one, ((0, 8), (0, wide - one.shape[1]), (0, 0)), constant_values=255) for one in pictures[:-1]]
    last = pictures[-1]
    return np.vstack([*padded, np.pad(last, ((0, 0), (0, wide - last.shape[1]), (0, 0)), constant_values=255)])


def _config(studio: Studio, settings: Settings, project: int) -> LabelingConfig:
    shown = studio.project(project)
    if shown is None:
        raise ConfigError(f"Label Studio has no project {project}.")
    return parse_config(shown["label_config"], settings.car_preset)


def _svg(figure: Figure) -> str:
    """A figure as an SVG element, as a data URI: no script, no outside file, and nothing in it that could be markup."""
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "corrections"}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
