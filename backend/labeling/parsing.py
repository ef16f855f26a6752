"""A labeling config (XML) -> what to look for and where to write it. The data classes: `config.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from backend.labeling.config import KINDS, ConfigError, Control, Label, LabelingConfig, empty_config
from model.presets import PresetError

__all__ = [
    "TAGS",
    "ConfigError",
    "Control",
    "Label",
    "LabelingConfig",
    "empty_config",
    "for_task",
    "image_url",
    "parse_config",
]

SETTINGS = ("refine", "background", "eta", "lambda")
"""Settings of the model that a control may change, by attributes `car_...`."""
CONTROL_ATTRIBUTES = {"car_preset", "car_instances", *(f"car_{name}" for name in SETTINGS)}
"""Attributes of a control that are ours alone, beside `model_score_threshold` and `model_skip`."""
LABEL_ATTRIBUTES = {"car_prompt", "car_group"}
TAGS = {f"{kind}labels": kind for kind in KINDS}


def parse_config(xml: str, default_preset: str) -> LabelingConfig:
    """Read a labeling config.

    The image of the first control that is not skipped is served, and all controls of that image together: they share
    a vocabulary. `default_preset` (the setting CAR_PRESET) is used when no control names one.

    Raises:
        ConfigError: the XML is broken or unsafe, a tag is missing, or an attribute has a value that cannot work.
    """
    root = _parse(xml)
    images = {tag.get("name", ""): tag for tag in _find(root, "image")}
    candidates = _find(root, *TAGS)
    if not images:
        raise ConfigError('The labeling config has no <Image> tag; add <Image name="image" value="$image"/>.')
    if not candidates:
        raise ConfigError(
            "The labeling config has no <BrushLabels> tag, so there is nowhere to put masks; add "
            '<BrushLabels name="mask" toName="image"> with one <Label value="..."/> per label.'
        )
    served = [tag for tag in candidates if tag.get("toName") in images]
    if not served:
        raise ConfigError(f"No <BrushLabels> points to an <Image>: toName must be one of {sorted(images)}.")
    wanted = [tag for tag in served if not _truth(tag, "model_skip")]
    to_name = (wanted or served)[0].get("toName", "")
    tags = [tag for tag in (wanted or served) if tag.get("toName") == to_name]
    labels = _vocabulary(tags)
    grouped = {"mutual": "paper"} if any(label.stuff for label in labels) else {}
    config = LabelingConfig(
        controls=tuple(map(_control, tags)),
        to_name=to_name,
        image_field=_field(images[to_name], "Image", "that holds its address"),
        labels=labels,
        preset=_agreed(tags, "car_preset") or default_preset,
        overrides=tuple(sorted({**grouped, **_overrides(tags)}.items())),
        skip=not wanted,
        labels_field=_labels_field(tags),
    )
    try:
        config.model_preset()
    except PresetError as error:
        raise ConfigError(f"<BrushLabels name={config.controls[0].from_name!r}>: {error}") from None
    return config


def for_task(config: LabelingConfig, data: object) -> LabelingConfig:
    """The config for one task: with the labels that its data lists, where the config asks for that.

    They are texts, or objects with `value` and whatever else a `<Label>` may have.

    Raises:
        ConfigError: there are no labels at all, or one of them cannot work.
    """
    if not config.labels_field:
        return config
    listed = data.get(config.labels_field) if isinstance(data, dict) else None
    if not isinstance(listed, list):
        raise ConfigError(f"The task's data has no list of labels in its field {config.labels_field!r}.")
    known = {label.value for label in config.labels}
    labels = _differing([_label("Label", {"value": one} if isinstance(one, str) else one) for one in listed])
    found = tuple(label for label in labels if label.value not in known)
    if not found and not known:
        raise ConfigError(f"The task's list of labels, {config.labels_field!r}, is empty.")
    return replace(config, task_labels=found)


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


def _find(root: Element, *tags: str) -> list[Element]:
    return [element for element in root.iter() if isinstance(element.tag, str) and element.tag.lower() in tags]


def _field(tag: Element, name: str, what: str) -> str:
    value = tag.get("value", "")
    if not value.startswith("$") or len(value) < 2:
        raise ConfigError(f'<{name}> needs value="$field", where field is the column of the task data {what}.')
    return value[1:]


def _labels_field(tags: Sequence[Element]) -> str:
    fields = {_field(tag, tag.tag, "that lists its labels") for tag in tags if tag.get("value")}
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
