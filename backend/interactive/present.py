"""The masks that are in the task already: an answer that is much the same as one of them takes its place."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from backend.interactive.asks import Ask, Present
from backend.labeling.config import LabelingConfig

MOST_BYTES = 2**20
"""Of the masks that travel with one question; what is beyond stays as it is."""


def present(task: Mapping[str, Any], ask: Ask, config: LabelingConfig) -> tuple[Present, ...]:
    """The brush regions of the asked label and image, in the predictions and drafts that Label Studio sent."""
    image = config.image(ask.image)
    names = {image.names(control).get(ask.label) for control in image.controls}
    found: dict[str, bytes] = {}
    for region in _regions(task):
        value, region_id = region.get("value"), region.get("id")
        rle, labels = (value.get("rle"), value.get("brushlabels")) if isinstance(value, dict) else (None, None)
        is_ours = region.get("to_name") == ask.image and region.get("item_index") == ask.page
        if is_ours and isinstance(region_id, str) and isinstance(labels, list) and names.intersection(labels[:1]):
            packed = _packed(rle)
            if packed is not None:
                found[region_id] = packed  # a draft is newer than a prediction
    kept = list(found.items())
    while sum(len(packed) for _, packed in kept) > MOST_BYTES:
        kept.pop(0)
    return tuple(Present(region_id, base64.b64encode(packed).decode()) for region_id, packed in kept)


def _regions(task: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for kind in ("predictions", "drafts"):
        for one in _list(task.get(kind)):
            yield from (region for region in _list(one.get("result")) if isinstance(region, dict))


def _list(value: object) -> list[Any]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _packed(rle: object) -> bytes | None:
    try:
        return bytes(rle) if isinstance(rle, list) else None
    except (TypeError, ValueError):
        return None
