"""Changes a labeling config as a person would: attributes of the served control and its labels, all else as it was."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree

from backend.project import ConfigError, parse_config

Attributes = Mapping[str, str | None]
"""Attribute -> value; None takes the attribute away."""


def with_attributes(xml: str, labels: Mapping[str, Attributes], control: Attributes | None = None) -> str:
    """Set attributes of labels (by their `value`) and of the `<BrushLabels>` that is served.

    Comments, order and everything else in the config stay; attributes are written with double quotes.

    Raises:
        ConfigError: the config cannot be pre-labelled, or has no such label.
    """
    served = parse_config(xml, "demo").from_name  # also refuses document types and entities
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True, insert_pis=True))
    root = ElementTree.fromstring(xml, parser=parser)
    tag = next(one for one in root.iter() if _is(one, "brushlabels") and one.get("name", "") == served)
    _set(tag, control or {})
    by_value = {(one.get("value") or "").strip(): one for one in tag.iter() if _is(one, "label")}
    for value, attributes in labels.items():
        if value not in by_value:
            raise ConfigError(f"The labeling config has no label {value!r}; it has {', '.join(map(repr, by_value))}.")
        _set(by_value[value], attributes)
    return ElementTree.tostring(root, encoding="unicode")


def _is(tag: ElementTree.Element, name: str) -> bool:
    return isinstance(tag.tag, str) and tag.tag.lower() == name


def _set(tag: ElementTree.Element, attributes: Attributes) -> None:
    for name, value in attributes.items():
        if value is None:
            tag.attrib.pop(name, None)
        else:
            tag.set(name, value)
