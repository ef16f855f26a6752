"""`corrections --project ID --calibrate --settings`: the model tried with other settings on what was corrected."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from backend.corrections.comparison import union_masks
from backend.corrections.corrector import Corrector
from backend.corrections.proposals import Kept, Proposal, keep
from backend.corrections.trials import Example, Setting, Trials
from backend.images.fetcher import fetcher_of
from backend.labeling.parsing import ConfigError, LabelingConfig, parse_config, pictures
from backend.settings import Settings
from model.segmenter import Segmenter

NEWEST = 60
"""Corrected tasks that are tried at most: each takes a segmentation for every setting."""


def calibrate_project(corrector: Corrector, settings: Settings, project: int, seed: int) -> Kept | None:
    """Try eta, lambda and lower thresholds on a project's newest corrected tasks; keep the proposal.

    Raises:
        StudioError, ConfigError: Label Studio does not answer, or the config cannot be served.
    """
    config = served(corrector, settings, project)
    if config is None:
        return None
    (asked,) = config.images
    examples = newest(corrector, settings, project, config)
    preset = settings.located(config.model_preset(asked))
    segmenter = Segmenter(preset, settings.car_device or None, settings.car_weights or None)
    with tqdm(desc="segmented", unit=" images", file=sys.stderr) as bar:
        trials = Trials(segmenter, asked.queries(), examples, bar.update)
        start = Setting(preset.eta, preset.lambda_, tuple(sorted(config.thresholds().items())))
        proposal = trials.propose(start, seed)
    names = {label.value: label.name for label in config.labels}
    thresholds = {names[label]: value for label, value in proposal.thresholds.items() if label in names}
    stored = Proposal(**{**vars(proposal), "thresholds": thresholds})
    return keep(corrector.redis, project, config.version(settings.car_weights), stored, asked=True)


def served(corrector: Corrector, settings: Settings, project: int) -> LabelingConfig | None:
    """A project's labeling config; None when there is no such project, or it is not served.

    Raises ConfigError where a task has several images: what is tried needs one.
    """
    shown = corrector.studio.project(project)
    config = parse_config(shown["label_config"], settings.car_preset) if shown else None
    if config is None or config.skip:
        return None
    if not config.one_image:
        raise ConfigError("The model is tried on one image per task, this project has several; calibrate without it.")
    return config


def newest(corrector: Corrector, settings: Settings, project: int, config: LabelingConfig) -> list[Example]:
    """The corrected tasks submitted last, `NEWEST` at most; images and masks are read when they are asked for."""
    reader = _Reader(corrector, settings, project, config)
    tasks = corrector.corrections.tasks(project)[-NEWEST:]
    return [Example(task, _later(reader.image, task), _later(reader.masks, task)) for task in tasks]


def _later(read: Any, task: int) -> Any:
    return lambda: read(task)


class _Reader:
    """Reads the images of a project's tasks, and the masks that were submitted for them."""

    def __init__(self, corrector: Corrector, settings: Settings, project: int, config: LabelingConfig):
        self.studio, self.project, self.config = corrector.studio, project, config
        self.corrections = corrector.corrections
        self.fetcher = fetcher_of(settings, self.studio.authorization)

    def image(self, task: int) -> NDArray[np.uint8]:
        """The task's image, [H, W, 3]."""
        found = self.studio.task(task, self.project) or {}
        (picture,) = pictures(self.config, found.get("data"))
        return self.fetcher.fetch(picture.address, task)

    def masks(self, task: int) -> Mapping[str, NDArray[np.bool_]]:
        """The submitted masks of the task's last annotation, by the labels' values."""
        last = max(self.corrections.of_task(self.project, task), key=lambda one: one.submitted).annotation
        result: list[dict[str, Any]] = next(
            (one["result"] for one in self.studio.annotations(task) if one["id"] == last), []
        )
        values = {label.name: label.value for label in self.config.labels}
        masks = union_masks(result).get((self.config.images[0].name, 0), {})
        return {values.get(name, name): mask for name, mask in masks.items()}
