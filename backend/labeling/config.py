"""What a labeling config asks for, as data: labels, the controls that take masks, and the settings of the model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
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
class Picture:
    """One image of a task: the name of its `<Image>` tag, its address in the task's data, and its page.

    page: its place in the list of an image with pages, from 0 (Label Studio's `item_index`); None without pages.
    """

    tag: str
    address: str
    page: int | None = None

    @property
    def digest(self) -> str:
        """Eight hex digits that stand for the address (see `backend.provenance`)."""
        return address_digest(self.address)

    def __str__(self) -> str:
        return self.tag if self.page is None else f"{self.tag}, page {self.page + 1}"


@dataclass(frozen=True)
class ImageTag:
    """One `<Image>` tag and what is asked of it: all its controls share one vocabulary.

    field: where a task's data holds the image's address, or a list of addresses when the tag has pages (`valueList`).
    labels_field: where a task's data lists further labels; `task_labels` are those, in a task's config (`for_task`).
    """

    name: str
    field: str
    controls: tuple[Control, ...]
    labels: tuple[Label, ...]
    overrides: tuple[tuple[str, str], ...] = ()
    paged: bool = False
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
        return _thresholds(self.all_labels)

    def names(self, control: Control) -> dict[str, str]:
        """Label value -> what a control stores for it, for the labels it has."""
        dynamic = {label.value: label.name for label in self.task_labels} if control.dynamic else {}
        return {**dynamic, **dict(control.names)}


@dataclass(frozen=True)
class LabelingConfig:
    """What one project asks for. Two equal configs get the same masks from the same images.

    images: those that have controls, each segmented by itself, in the order of their first controls.
    """

    images: tuple[ImageTag, ...]
    preset: str
    skip: bool = False

    @property
    def labels(self) -> tuple[Label, ...]:
        """The labels of all images, without those of single tasks; one that several have is described by the first."""
        return _merged(label for image in self.images for label in image.labels)

    @property
    def all_labels(self) -> tuple[Label, ...]:
        """The labels of all images, then those of the task."""
        return _merged([*self.labels, *(label for image in self.images for label in image.task_labels)])

    @property
    def one_image(self) -> bool:
        """Whether every task has one image."""
        return len(self.images) == 1 and not self.images[0].paged

    def image(self, name: str) -> ImageTag:
        """The image tag of that name."""
        return next(image for image in self.images if image.name == name)

    @property
    def has_task_labels(self) -> bool:
        """Whether tasks bring labels along."""
        return any(image.labels_field for image in self.images)

    def thresholds(self) -> dict[str, float]:
        """Label value -> smallest score of a region, as `labels`."""
        return _thresholds(self.all_labels)

    def names(self) -> dict[str, str]:
        """What the controls store -> the label's value, for all labels of all images."""
        return {
            name: value
            for image in self.images
            for control in image.controls
            for value, name in image.names(control).items()
        }

    def model_preset(self, image: ImageTag) -> Preset:
        """The preset with the changes that are asked for at one image."""
        return preset(self.preset, dict(image.overrides))

    def version(self, weights: str = "") -> str:
        """The `model_version` of every prediction made with this config.

        A pure function of preset, weights and config: Label Studio asks again exactly when it changes, and a restart
        does not change it. Labels of single tasks are not in it. `weights` is the setting CAR_WEIGHTS.
        """
        first, *others = [self.model_preset(image).checksum for image in self.images] or [preset(self.preset).checksum]
        project = replace(self, images=tuple(replace(image, task_labels=()) for image in self.images))
        plain = json.dumps([asdict(project), weights, others], sort_keys=True)
        return f"car-{self.preset}-{first}-{hashlib.sha256(plain.encode()).hexdigest()[:8]}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LabelingConfig:
        """Inverse of `to_json`."""
        return cls(**{**data, "images": tuple(map(_image, data["images"]))})


def address_digest(address: str) -> str:
    """Eight hex digits that stand for an image's address."""
    return hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def empty_config(preset_name: str) -> LabelingConfig:
    """A config that asks for nothing but a preset; its version names preset and weights."""
    return LabelingConfig((), preset_name)


def _merged(labels: Iterable[Label]) -> tuple[Label, ...]:
    found: dict[str, Label] = {}
    for label in labels:
        found.setdefault(label.value, label)
    return tuple(found.values())


def _thresholds(labels: Iterable[Label]) -> dict[str, float]:
    return {label.value: label.threshold for label in labels if label.threshold is not None}


def _image(data: Mapping[str, Any]) -> ImageTag:
    plain = {**data, "controls": tuple(map(_control, data["controls"])), "overrides": _pairs(data["overrides"])}
    for field in ("labels", "task_labels"):
        plain[field] = tuple(Label(**{**label, "prompts": tuple(label["prompts"])}) for label in data[field])
    return ImageTag(**plain)


def _control(data: Mapping[str, Any]) -> Control:
    return Control(**{**data, "names": _pairs(data["names"])})


def _pairs(data: Iterable[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((first, second) for first, second in data)
