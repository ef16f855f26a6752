"""A labeling config (XML) -> what to look for and where to write it. The data classes: `config.py`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from backend.labeling.config import (
    KINDS,
    ConfigError,
    Control,
    ImageTag,
    Label,
    LabelingConfig,
    Picture,
    empty_config,
)
from model.presets import PresetError

__all__ = [
    "TAGS",
    "ConfigError",
    "Control",
    "ImageTag",
    "Label",
    "LabelingConfig",
    "Picture",
    "empty_config",
    "for_task",
    "parse_config",
    "pictures",
]

SETTINGS = ("refine", "background", "eta", "lambda", "memory")
"""Settings of the model that a control may change, by attributes `car_...`."""
CONTROL_ATTRIBUTES = {"car_preset", "car_instances", *(f"car_{name}" for name in SETTINGS)}
"""Attributes of a control that are ours alone, beside `model_score_threshold` and `model_skip`."""
LABEL_ATTRIBUTES = {"car_prompt", "car_group"}
MEMORY = re.compile(r"\w[\w.-]{0,99}#[0-9a-f]{16}")
"""What `car_memory` may be: a file's name without folder and ending, and how its SHA-256 begins."""
TAGS = {f"{kind}labels": kind for kind in KINDS}


def parse_config(xml: str, default_preset: str, skipped: bool = False) -> LabelingConfig:
    """Read a labeling config.

    All images with controls that are not skipped are served, each with the labels of its own controls. `default_preset`
    (the setting CAR_PRESET) is used when no control names one. With `skipped` controls that are left to people are read
    as though they were not: what they draw is exported, too. Tools to ask with (`smartOnly`, see docs/interactive.md)
    take no masks.

    Raises:
        ConfigError: the XML is broken or unsafe, a tag is missing, or an attribute has a value that cannot work.
    """
    root = _parse(xml)
    served = _served(root)
    wanted = [tag for tag in served if not _truth(tag, "model_skip")]
    tags = served if skipped else wanted or served
    config = LabelingConfig(
        images=tuple(_image_tag(root, name, tags) for name in dict.fromkeys(tag.get("toName", "") for tag in tags)),
        preset=_agreed(tags, "car_preset") or default_preset,
        skip=not wanted,
    )
    for image in config.images:
        try:
            config.model_preset(image)
        except PresetError as error:
            raise ConfigError(f"<BrushLabels name={image.controls[0].from_name!r}>: {error}") from None
    return config


def for_task(config: LabelingConfig, data: object) -> LabelingConfig:
    """The config for one task: with the labels that its data lists, where the config asks for that.

    They are texts, or objects with `value` and whatever else a `<Label>` may have.

    Raises:
        ConfigError: an image has no labels at all, or one of them cannot work.
    """
    if not config.has_task_labels:
        return config
    return replace(config, images=tuple(_with_task_labels(image, data) for image in config.images))


def pictures(config: LabelingConfig, data: object) -> tuple[Picture, ...]:
    """The images of a task, as its data names them. Where it has several, one without an address is left out.

    Raises:
        ConfigError: none of them has an address that is text.
    """
    found = [picture for image in config.images for picture in _addresses(image, data)]
    # Label Studio 1.23 names the column of a plain file import "$undefined$" until the config is known.
    if not found and len(config.images) == 1 and isinstance(data, dict):
        found = list(_addresses(replace(config.images[0], field="$undefined$"), data))
    if not found:
        fields = ", ".join(repr(image.field) for image in config.images)
        raise ConfigError(f"The task's data has no image address in its field {fields}.")
    return tuple(found)


def _addresses(image: ImageTag, data: object) -> Iterator[Picture]:
    value = data.get(image.field) if isinstance(data, dict) else None
    pages = (value if isinstance(value, list) else []) if image.paged else [value]
    for page, address in enumerate(pages):
        if isinstance(address, str) and address.strip():
            yield Picture(image.name, address.strip(), page if image.paged else None)


def _served(root: Element) -> list[Element]:
    """The controls that can take masks and point to an image, skipped ones too."""
    images = {tag.get("name", "") for tag in _find(root, "image")}
    candidates = [tag for tag in _find(root, *TAGS) if not _truth(tag, "smartOnly") and not _truth(tag, "smartonly")]
    if not images:
        raise ConfigError('The labeling config has no <Image> tag; add <Image name="image" value="$image"/>.')
    if not candidates:
        raise ConfigError(
            "The labeling config has no <BrushLabels> tag, so there is nowhere to put masks; add "
            '<BrushLabels name="mask" toName="image"> with one <Label value="..."/> per label.'
        )
    names = {name for tag in root.iter() if (name := tag.get("name"))}
    count = Counter(tag.get("name", "") for tag in (*_find(root, "image"), *candidates))
    twice = sorted(name for name, found in count.items() if name and found > 1)
    if twice:
        raise ConfigError(f"Two tags have the same name: {', '.join(map(repr, twice))}. Make them differ.")
    for tag in candidates:
        if not tag.get("name"):
            raise ConfigError(
                f'A <{tag.tag}> has no name; write <{tag.tag} name="mask" ...>: masks are stored under it.'
            )
        if tag.get("toName", "") not in names:
            raise ConfigError(
                f"<{tag.tag} name={tag.get('name')!r}> points to {tag.get('toName', '')!r}, which is no tag of the "
                f"labeling config: toName must be one of {sorted(images)}."
            )
    served = [tag for tag in candidates if tag.get("toName") in images]
    if not served:
        raise ConfigError(f"No <BrushLabels> points to an <Image>: toName must be one of {sorted(images)}.")
    return served


def _image_tag(root: Element, name: str, controls: Sequence[Element]) -> ImageTag:
    """What is asked of the image of that name."""
    (tag,) = (one for one in _find(root, "image") if one.get("name", "") == name)
    own = [one for one in controls if one.get("toName") == name]
    labels = _vocabulary(own)
    grouped = {"mutual": "paper"} if any(label.stuff for label in labels) else {}
    pages = next((value for key, value in tag.attrib.items() if key.lower() == "valuelist"), "")
    return ImageTag(
        name=name,
        field=_field("Image", pages or tag.get("value", ""), "that holds its address"),
        controls=tuple(map(_control, own)),
        labels=labels,
        overrides=tuple(sorted({**grouped, **_overrides(own)}.items())),
        paged=bool(pages),
        labels_field=_labels_field(own),
    )


def _with_task_labels(image: ImageTag, data: object) -> ImageTag:
    if not image.labels_field:
        return image
    listed = data.get(image.labels_field) if isinstance(data, dict) else None
    if not isinstance(listed, list):
        raise ConfigError(f"The task's data has no list of labels in its field {image.labels_field!r}.")
    known = {label.value for label in image.labels}
    labels = _differing([_label("Label", {"value": one} if isinstance(one, str) else one) for one in listed])
    found = tuple(label for label in labels if label.value not in known)
    if not found and not known:
        raise ConfigError(f"The task's list of labels, {image.labels_field!r}, is empty.")
    return replace(image, task_labels=found)


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


def _find(root: Element, *tags: str) -> list[Element]:
    return [element for element in root.iter() if isinstance(element.tag, str) and element.tag.lower() in tags]


def _field(name: str, value: str, what: str) -> str:
    if not value.startswith("$") or len(value) < 2:
        raise ConfigError(f'<{name}> needs value="$field", where field is the column of the task data {what}.')
    return value[1:]


def _labels_field(tags: Sequence[Element]) -> str:
    fields = {_field(tag.tag, tag.get("value", ""), "that lists its labels") for tag in tags if tag.get("value")}
    if len(fields) > 1:
        raise ConfigError(f"The labels of one image come from several fields, {sorted(fields)}; use the same one.")
    return fields.pop() if fields else ""


def _vocabulary(tags: Iterable[Element]) -> tuple[Label, ...]:
    """The labels of all controls; one that several have is described by the first."""
    found: dict[str, Label] = {}
    for tag in tags:
        common = _threshold(tag.attrib)
        for label in _labels(tag):
            own = label if label.threshold is not None else replace(label, threshold=common)
            found.setdefault(label.value, own)
    return tuple(found.values())


def _control(tag: Element) -> Control:
    _refuse_unknown(tag.tag, tag.attrib, CONTROL_ATTRIBUTES)
    instances = tag.get("car_instances") or "one"
    if instances not in ("one", "components"):
        raise ConfigError(f'car_instances="{instances}" must be "one" (a region per label) or "components" (per part).')
    names = tuple((label.value, label.name) for label in _labels(tag))
    return Control(TAGS[tag.tag.lower()], tag.get("name", ""), names, instances, bool(tag.get("value")))


def _labels(control: Element) -> list[Label]:
    labels = [_label(tag.tag, tag.attrib) for tag in _find(control, "label")]
    if not labels and not control.get("value"):
        raise ConfigError(
            f'<{control.tag} name="{control.get("name")}"> has no <Label>; add at least one <Label value="..."/>.'
        )
    return _differing(labels)


def _differing(labels: list[Label]) -> list[Label]:
    for what, names in (("value", [label.value for label in labels]), ("stored name", [x.name for x in labels])):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"Two labels have the same {what}: {', '.join(map(repr, twice))}. Make them differ.")
    return labels


def _label(tag: str, attributes: object) -> Label:
    if not isinstance(attributes, Mapping):
        raise ConfigError(f"A label in a task's data is {attributes!r}, neither a text nor an object with a value.")
    _refuse_unknown(tag, attributes, LABEL_ATTRIBUTES)
    value = _text(attributes, "value")
    if not value:
        raise ConfigError('A <Label> has no value; write <Label value="..."/>.')
    group = _text(attributes, "car_group") or "things"
    if group not in ("things", "stuff"):
        raise ConfigError(f'car_group="{group}" must be "things" or "stuff".')
    verbatim = _text(attributes, "car_prompt")
    listed = tuple(text.strip() for text in _text(attributes, "predicted_values").split(",") if text.strip())
    prompts = (verbatim,) if verbatim else listed or (value,)
    return Label(value, _text(attributes, "alias") or value, prompts, _threshold(attributes), group == "stuff")


def _text(attributes: Mapping[str, object], name: str) -> str:
    value = attributes.get(name)
    return "" if value is None else str(value).strip()


def _threshold(attributes: Mapping[str, object]) -> float | None:
    text = _text(attributes, "model_score_threshold")
    if not text:
        return None
    try:
        threshold = float(text)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 1:
        raise ConfigError(f'model_score_threshold="{text}" is not a number from 0 to 1.')
    return threshold


def _overrides(tags: Sequence[Element]) -> dict[str, str]:
    named = {name: _agreed(tags, f"car_{name}") for name in SETTINGS}
    memory = named["memory"]
    if memory and not MEMORY.fullmatch(memory):
        raise ConfigError(
            f'car_memory="{memory}" must be a name and a checksum, like logos#0123456789abcdef. `python -m backend '
            "corrections --project ID --memory NAME` makes the file and says what to write here; --apply writes it."
        )
    return {name: value for name, value in named.items() if value is not None}


def _agreed(tags: Iterable[Element], attribute: str) -> str | None:
    """What the controls of one image say of a setting, None if nothing: its masks are made once for all of them."""
    values = {value for tag in tags if (value := tag.get(attribute)) is not None}
    if len(values) > 1:
        raise ConfigError(f"The controls of one image differ in {attribute}: {sorted(values)}. Write it once.")
    return values.pop() if values else None


def _truth(tag: Element, attribute: str) -> bool:
    return (tag.get(attribute) or "").strip().lower() in ("true", "1", "yes")


def _refuse_unknown(tag: str, attributes: Mapping[str, object], known: set[str]) -> None:
    unknown = sorted(name for name in map(str, attributes) if name.startswith("car_") and name not in known)
    if unknown:
        raise ConfigError(f"<{tag}> has {', '.join(unknown)}; this version knows {', '.join(sorted(known))}.")
