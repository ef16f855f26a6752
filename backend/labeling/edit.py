"""Changes a labeling config as a person would: attributes of the served control and its labels, all else as it was."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree

from backend.labeling.parsing import TAGS, ConfigError, parse_config

Attributes = Mapping[str, str | None]
"""Attribute -> value; None takes the attribute away."""


def with_attributes(xml: str, labels: Mapping[str, Attributes], control: Attributes | None = None) -> str:
    """Set attributes of labels, by their `value`, and of the first control; in each image that is served.

    Comments, order and everything else in the config stay; attributes are written with double quotes.

    Raises:
        ConfigError: the config cannot be pre-labelled, or has no such label.
    """
    config = parse_config(xml, "demo")  # refuses entities, too
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True, insert_pis=True))
    root = ElementTree.fromstring(xml, parser=parser)
    known = [label.value for label in config.labels]
    unknown = sorted(set(labels) - set(known))
    if unknown:
        wanted, has = (", ".join(map(repr, names)) for names in (unknown, known))
        raise ConfigError(f"The labeling config has no label {wanted}; it has {has}.")
    for image in config.images:
        names = [control.from_name for control in image.controls]
        tags = [one for one in root.iter() if _is(one, *TAGS) and one.get("name", "") in names]
        _set(tags[0], control or {})
        found = [one for tag in tags for one in tag.iter() if _is(one, "label")]
        for value, attributes in labels.items():
            first = next((one for one in found if (one.get("value") or "").strip() == value), None)
            if first is not None:
                _set(first, attributes)
    return ElementTree.tostring(root, encoding="unicode")


def _is(tag: ElementTree.Element, *names: str) -> bool:
    return isinstance(tag.tag, str) and tag.tag.lower() in names


def _set(tag: ElementTree.Element, attributes: Attributes) -> None:
    for name, value in attributes.items():
        if value is None:
            tag.attrib.pop(name, None)
        else:
            tag.set(name, value)
