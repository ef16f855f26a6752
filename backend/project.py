"""A labeling config (XML) -> what to look for, where to write it, and the version of the answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from model.presets import Preset, PresetError, preset
from model.vocabulary import Query

CONTROL_ATTRIBUTES = {"car_preset", "car_refine", "car_background", "car_eta", "car_lambda"}
"""Attributes of `<BrushLabels>` that are ours alone, beside `model_score_threshold` and `model_skip`."""
LABEL_ATTRIBUTES = {"car_prompt"}


class ConfigError(Exception):
    """This labeling config cannot be pre-labelled; the message says what is missing and how to add it."""


@dataclass(frozen=True)
class Label:
    """One `<Label>`: `name` is what Label Studio stores (its alias, else its value), `value` what people see."""

    value: str
    name: str
    prompts: tuple[str, ...]
    threshold: float | None = None


@dataclass(frozen=True)
class LabelingConfig:
    """What one project asks for. Two equal configs get the same masks from the same image."""

    from_name: str
    to_name: str
    image_field: str
    labels: tuple[Label, ...]
    preset: str
    overrides: tuple[tuple[str, str], ...] = ()
    threshold: float | None = None
    skip: bool = False

    def queries(self) -> tuple[Query, ...]:
        """The vocabulary for the model, in the order of the config."""
        return tuple(Query(label.value, label.prompts) for label in self.labels)

    def thresholds(self) -> dict[str, float]:
        """Label value -> smallest score of a region, for the labels that have one (their own, else the control's)."""
        chosen = {label.value: self.threshold if label.threshold is None else label.threshold for label in self.labels}
        return {value: threshold for value, threshold in chosen.items() if threshold is not None}

    def model_preset(self) -> Preset:
        """The preset with this project's changes."""
        return preset(self.preset, dict(self.overrides))

    def version(self, weights: str = "") -> str:
        """The `model_version` of every prediction made with this config.

        A pure function of preset, weights and config: Label Studio asks again exactly when it changes, and a restart
        does not change it. `weights` is the setting CAR_WEIGHTS.
        """
        chosen = self.model_preset()
        digest = hashlib.sha256(json.dumps([asdict(self), weights], sort_keys=True).encode()).hexdigest()
        return f"car-{self.preset}-{chosen.checksum}-{digest[:8]}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LabelingConfig:
        """Inverse of `to_json`."""
        labels = tuple(Label(**{**label, "prompts": tuple(label["prompts"])}) for label in data["labels"])
        overrides = tuple((name, value) for name, value in data["overrides"])
        return cls(**{**data, "labels": labels, "overrides": overrides})


def parse_config(xml: str, default_preset: str) -> LabelingConfig:
    """Read a labeling config.

    The first `<BrushLabels>` that is not skipped and points to an `<Image>` is served; `default_preset` (the setting
    CAR_PRESET) is used when it names none.

    Raises:
        ConfigError: the XML is broken or unsafe, a tag is missing, or an attribute has a value that cannot work.
    """
    root = _parse(xml)
    images = {tag.get("name", ""): tag for tag in _find(root, "image")}
    controls = _find(root, "brushlabels")
    if not images:
        raise ConfigError('The labeling config has no <Image> tag; add <Image name="image" value="$image"/>.')
    if not controls:
        raise ConfigError(
            "The labeling config has no <BrushLabels> tag, so there is nowhere to put masks; add "
            '<BrushLabels name="mask" toName="image"> with one <Label value="..."/> per label.'
        )
    served = [tag for tag in controls if tag.get("toName") in images]
    if not served:
        raise ConfigError(f"No <BrushLabels> points to an <Image>: toName must be one of {sorted(images)}.")
    control = next((tag for tag in served if not _truth(tag, "model_skip")), served[0])
    _refuse_unknown(control, CONTROL_ATTRIBUTES)
    config = LabelingConfig(
        from_name=control.get("name", ""),
        to_name=control.get("toName", ""),
        image_field=_image_field(images[control.get("toName", "")]),
        labels=_labels(control),
        preset=control.get("car_preset") or default_preset,
        overrides=_overrides(control),
        threshold=_threshold(control),
        skip=_truth(control, "model_skip"),
    )
    try:
        config.model_preset()
    except PresetError as error:
        raise ConfigError(f"<BrushLabels name={config.from_name!r}>: {error}") from None
    return config


def image_url(config: LabelingConfig, data: object) -> str:
    """The address of a task's image, in the task's data.

    Raises:
        ConfigError: the task has no such field, or it is not text.
    """
    # Label Studio 1.23 names the column of a plain file import "$undefined$" until the config is known.
    value = data.get(config.image_field, data.get("$undefined$")) if isinstance(data, dict) else None
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"The task's data has no image address in its field {config.image_field!r}.")
    return value.strip()


def _parse(xml: object) -> Element:
    if not isinstance(xml, str):
        raise ConfigError(f"The labeling config is {type(xml).__name__}, not text.")
    try:
        root: Element = fromstring(xml, forbid_dtd=True)
    except ParseError as error:
        raise ConfigError(f"The labeling config is not well-formed XML: {error}.") from None
    except DefusedXmlException:
        raise ConfigError("The labeling config declares entities or a document type; remove them.") from None
    return root


def _find(root: Element, tag: str) -> list[Element]:
    return [element for element in root.iter() if isinstance(element.tag, str) and element.tag.lower() == tag]


def _image_field(image: Element) -> str:
    value = image.get("value", "")
    if not value.startswith("$") or len(value) < 2:
        raise ConfigError(
            '<Image> needs value="$field", where field is the column of the task data that holds its address.'
        )
    return value[1:]


def _labels(control: Element) -> tuple[Label, ...]:
    tags = _find(control, "label")
    if not tags:
        raise ConfigError(
            f'<BrushLabels name="{control.get("name")}"> has no <Label>; add at least one <Label value="..."/>.'
        )
    labels = tuple(_label(tag) for tag in tags)
    for what, names in (("value", [label.value for label in labels]), ("stored name", [x.name for x in labels])):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"Two labels have the same {what}: {', '.join(map(repr, twice))}. Make them differ.")
    return labels


def _label(tag: Element) -> Label:
    _refuse_unknown(tag, LABEL_ATTRIBUTES)
    value = (tag.get("value") or "").strip()
    if not value:
        raise ConfigError('A <Label> has no value; write <Label value="..."/>.')
    verbatim = (tag.get("car_prompt") or "").strip()
    listed = tuple(text.strip() for text in (tag.get("predicted_values") or "").split(",") if text.strip())
    prompts = (verbatim,) if verbatim else listed or (value,)
    return Label(value, tag.get("alias") or value, prompts, _threshold(tag))


def _threshold(tag: Element) -> float | None:
    text = tag.get("model_score_threshold")
    if not text:
        return None
    try:
        threshold = float(text)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 1:
        raise ConfigError(f'model_score_threshold="{text}" is not a number from 0 to 1.')
    return threshold


def _overrides(control: Element) -> tuple[tuple[str, str], ...]:
    named = {name: control.get(f"car_{name}") for name in ("refine", "background", "eta", "lambda")}
    return tuple(sorted((name, value) for name, value in named.items() if value is not None))


def _truth(tag: Element, attribute: str) -> bool:
    return (tag.get(attribute) or "").strip().lower() in ("true", "1", "yes")


def _refuse_unknown(tag: Element, known: set[str]) -> None:
    unknown = sorted(name for name in tag.keys() if name.startswith("car_") and name not in known)  # noqa: SIM118
    if unknown:
        raise ConfigError(f"<{tag.tag}> has {', '.join(unknown)}; this version knows {', '.join(sorted(known))}.")
