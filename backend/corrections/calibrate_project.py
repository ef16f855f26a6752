"""`corrections --project ID --calibrate --settings`: the model tried with other settings on what was corrected."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from backend.corrections.comparison import ComparisonError, Mask, union_masks
from backend.corrections.corrector import Corrector
from backend.corrections.proposals import Kept, Proposal, ProposalError, keep
from backend.corrections.records import compared
from backend.corrections.trials import Draw, Example, Setting, Trials, as_it_is
from backend.images.fetcher import fetcher_of
from backend.labeling.config import ImageTag
from backend.labeling.parsing import ConfigError, LabelingConfig, parse_config, pictures
from backend.masks.results import parts
from backend.provenance import shows_still
from backend.reconcile import read_tasks
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
        trials = Trials(segmenter, asked.queries(), examples, bar.update, drawing(asked))
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
    """The corrected tasks submitted last, `NEWEST` at most; images and masks are read when they are asked for.

    Tasks of which no annotation could be compared are left out, and those that are gone or show another image now.
    """
    reader = _Reader(corrector, settings, project, config)
    annotated = {one.task: one.fingerprint for one in compared(corrector.corrections.newest(project))}
    tasks = [task for task in corrector.corrections.tasks(project) if task in annotated][-NEWEST:]
    there = read_tasks(corrector.studio, project, tasks) or {}
    tasks = [task for task in tasks if task in there and shows_still(there[task], project, config, annotated[task])]
    return [Example(task, _later(reader.image, task), _later(reader.masks, task)) for task in tasks]


def drawing(image: ImageTag) -> Draw:
    """How an image's controls draw a mask: as it is, or as the boxes around it where all of them are rectangles."""
    if any(control.kind != "rectangle" for control in image.controls):
        return as_it_is
    apart = all(control.instances == "components" for control in image.controls)
    return lambda mask: np.any([_boxed(part) for part in (parts(mask) if apart else [mask])], axis=0)


def _boxed(mask: Mask) -> Mask:
    """The box around a mask [H, W] that is not empty, filled."""
    rows, columns = np.nonzero(mask)
    box: Mask = np.zeros_like(mask)
    box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    return box


def _later(read: Any, task: int) -> Any:
    return lambda: read(task)


class _Reader:
    """Reads the images of a project's tasks, and the masks that were submitted for them."""

    def __init__(self, corrector: Corrector, settings: Settings, project: int, config: LabelingConfig):
        self.studio, self.project, self.config = corrector.studio, project, config
        self.corrections, self.most_pixels = corrector.corrections, settings.car_max_pixels
        self.fetcher = fetcher_of(settings, self.studio.authorization)

    def image(self, task: int) -> NDArray[np.uint8]:
        """The task's image, [H, W, 3]."""
        found = self.studio.task(task, self.project) or {}
        (picture,) = pictures(self.config, found.get("data"))
        return self.fetcher.fetch(picture.address, task)

    def masks(self, task: int) -> Mapping[str, NDArray[np.bool_]]:
        """The submitted masks of the task's last annotation that was compared, by the labels' values.

        Raises ProposalError where they cannot be read any more.
        """
        known = {one.annotation: one.submitted for one in compared(self.corrections.of_task(self.project, task))}
        there = [one for one in self.studio.annotations(task) if one["id"] in known]
        values = {label.name: label.value for label in self.config.labels}
        try:
            if not there:
                raise ComparisonError("its annotation is gone")
            result: object = max(there, key=lambda one: known[one["id"]])["result"]
            masks = union_masks(result, self.most_pixels).get((self.config.images[0].name, 0), {})
        except ComparisonError as error:
            raise ProposalError(f"The regions of task {task} cannot be read any more: {error}") from None
        return {values[name]: mask for name, mask in masks.items() if name in values}
