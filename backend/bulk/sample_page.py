"""The page of a sample: every image with its masks over it, every label with its score. One file, no script."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader
from PIL import Image

from backend.bulk.sample import Estimate, Trial, estimate_text
from backend.bulk.tally import Tally
from backend.export.regions import regions, regions_at
from backend.images.fetcher import ImageError, ImageUnavailable
from backend.labeling.config import Picture
from backend.labeling.parsing import LabelingConfig
from backend.pages import TEMPLATES
from backend.queue.jobs import found_scores
from model.palette import colors

SIDE = 640
"""Pixels of the longer side of an image on the page."""
OPACITY = 0.55

Pixels = npt.NDArray[np.uint8]
Fetch = Callable[[str, int], Pixels]
"""(address, task) -> RGB [H, W, 3], turned as people see it."""


@dataclass(frozen=True)
class Shown:
    """One label of one task: its score (None if not known), and whether it was kept, with its colour on the page."""

    label: str
    score: float | None
    kept: bool
    color: str


def overlay(image: Pixels, masks: Mapping[int, npt.NDArray[np.bool_]], palette: Pixels, side: int = SIDE) -> Pixels:
    """The image, at most `side` pixels wide and high, with masks laid over it.

    image: uint8 [H, W, 3]. masks: row of the palette -> bool [H, W]. palette: uint8 [N, 3].
    """
    step = max(1, -(-max(image.shape[:2]) // side))
    small = image[::step, ::step].astype(np.float32)
    for row, mask in masks.items():
        inside = mask[::step, ::step]
        small[inside] = (1 - OPACITY) * small[inside] + OPACITY * palette[row]
    return small.round().astype(np.uint8)


def labels_of(trial: Trial, palette: Pixels) -> list[Shown]:
    """All labels of the task in their order; the score of a kept one is its region's, of a dropped one the raw one."""
    rows, best = _rows(trial.job.config), found_scores(trial.prediction or {})
    kept: dict[int, float] = {}
    for name, score in best.items():
        kept[rows[name]] = max(score, kept.get(rows[name], 0.0))
    return [
        Shown(label.value, kept.get(row, trial.scores.get(label.name)), row in kept, _css(palette[row]))
        for row, label in enumerate(trial.job.config.all_labels, start=1)
    ]


def _rows(config: LabelingConfig) -> dict[str, int]:
    """What the controls store for the labels -> the labels' rows in the palette."""
    order = {label.value: row for row, label in enumerate(config.all_labels, start=1)}
    return {name: order[value] for name, value in config.names().items()}


def page(
    title: str, config: LabelingConfig, trials: Sequence[Trial], found: Tally, left: Estimate | None, fetch: Fetch
) -> str:
    """The whole page as HTML; an image that cannot be read is named with the reason."""
    palette = colors(1 + max(len(one.job.config.all_labels) for one in trials))
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["score"] = lambda score: "" if score is None else f"{score:.2f}"
    return environment.get_template("sample.html").render(
        title=title,
        config=config,
        thresholds=config.thresholds(),
        colors={label.value: _css(palette[row]) for row, label in enumerate(config.labels, start=1)},
        tally=found,
        found={row.label: row for row in found.labels},
        estimate=estimate_text(left) if left else "",
        trials=[(trial, labels_of(trial, palette), _pictures(trial, palette, fetch)) for trial in trials],
    )


def _pictures(trial: Trial, palette: Pixels, fetch: Fetch) -> list[tuple[str, str]]:
    """For each image of a task: (the overlay as a data URI, "") or ("", why there is none)."""
    if trial.prediction is None:
        return [("", trial.error)]
    shown = []
    for picture in trial.job.pictures:
        try:
            shown.append((_overlay(trial, picture, palette, fetch), ""))
        except (ImageError, ImageUnavailable) as error:
            shown.append(("", f"The image cannot be shown: {error}"))
    return shown


def _overlay(trial: Trial, picture: Picture, palette: Pixels, fetch: Fetch) -> str:
    image = fetch(picture.address, trial.job.task)
    rows = _rows(trial.job.config)
    masks: dict[int, npt.NDArray[np.bool_]] = {}
    for region in regions(regions_at(trial.prediction["result"] if trial.prediction else (), picture), list(rows)):
        masks[rows[region.label]] = region.mask | masks.get(rows[region.label], False)
    if any(mask.shape != image.shape[:2] for mask in masks.values()):
        raise ImageError("it has another size now")
    buffer = io.BytesIO()
    Image.fromarray(overlay(image, masks, palette)).save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _css(color: npt.NDArray[np.uint8]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color.tolist())
