"""What a labeling config asks for, as data: labels, the controls that take masks, and the settings of the model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from model.presets import Preset, preset
from model.vocabulary import Query

KINDS = ("brush", "polygon", "rectangle")
"""Controls that can be filled from a mask: `<BrushLabels>`, `<PolygonLabels>`, `<RectangleLabels>`."""


class ConfigError(Exception):
    """This labeling config cannot be pre-labelled; the message says what is missing and how to add it."""


@dataclass(frozen=True)
class Label:
    """One `<Label>`: `name` is what Label Studio stores (its alias, else its value), `value` what people see.

    stuff: it has no shape of its own, like sky (`car_group="stuff"`).
    """

    value: str
    name: str
    prompts: tuple[str, ...]
    threshold: float | None = None
    stuff: bool = False


@dataclass(frozen=True)
class Control:
    """A tag that takes masks: its kind (of `KINDS`) and name, and whether each part of a mask is a region of its own.

    names: what it stores for each label it has, by value. dynamic: whether labels of a task's data are its labels, too.
    """

    kind: str
    from_name: str
    names: tuple[tuple[str, str], ...]
    instances: str = "one"
    dynamic: bool = False


@dataclass(frozen=True)
class LabelingConfig:
    """What one project asks for. Two equal configs get the same masks from the same image.

    controls: all that show the same image; they share one vocabulary, `labels`. labels_field: where a task's data lists
    further labels; `task_labels` are those, in the config of a task (`for_task`).
    """

    controls: tuple[Control, ...]
    to_name: str
    image_field: str
    labels: tuple[Label, ...]
    preset: str
    overrides: tuple[tuple[str, str], ...] = ()
    skip: bool = False
    labels_field: str = ""
    task_labels: tuple[Label, ...] = ()

    @property
    def all_labels(self) -> tuple[Label, ...]:
        """The vocabulary: the labels of the config, then those of the task."""
        return self.labels + self.task_labels

    def queries(self) -> tuple[Query, ...]:
        """The vocabulary for the model, in the order of the config."""
        return tuple(Query(label.value, label.prompts, label.stuff) for label in self.all_labels)

    def thresholds(self) -> dict[str, float]:
        """Label value -> smallest score of a region, for the labels that have one (their own, else their control's)."""
        return {label.value: label.threshold for label in self.all_labels if label.threshold is not None}

    def names(self, control: Control) -> dict[str, str]:
        """Label value -> what a control stores for it, for the labels it has."""
        dynamic = {label.value: label.name for label in self.task_labels} if control.dynamic else {}
        return {**dynamic, **dict(control.names)}

    def model_preset(self) -> Preset:
        """The preset with this project's changes."""
        return preset(self.preset, dict(self.overrides))

    def version(self, weights: str = "") -> str:
        """The `model_version` of every prediction made with this config.

        A pure function of preset, weights and config: Label Studio asks again exactly when it changes, and a restart
        does not change it. Labels of single tasks are not in it. `weights` is the setting CAR_WEIGHTS.
        """
        chosen = self.model_preset()
        project = asdict(replace(self, task_labels=()))
        digest = hashlib.sha256(json.dumps([project, weights], sort_keys=True).encode()).hexdigest()
        return f"car-{self.preset}-{chosen.checksum}-{digest[:8]}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LabelingConfig:
        """Inverse of `to_json`."""
        plain = {**data, "controls": tuple(map(_control, data["controls"]))}
        for field in ("labels", "task_labels"):
            plain[field] = tuple(Label(**{**label, "prompts": tuple(label["prompts"])}) for label in data[field])
        return cls(**{**plain, "overrides": tuple((name, value) for name, value in data["overrides"])})


def empty_config(preset_name: str) -> LabelingConfig:
    """A config that asks for nothing but a preset; its version names preset and weights."""
    return LabelingConfig((), "", "", (), preset_name)


def _control(data: Mapping[str, Any]) -> Control:
    return Control(**{**data, "names": tuple((value, name) for value, name in data["names"])})
