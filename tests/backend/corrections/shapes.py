"""Regions of every shape on an image of 100 x 50 pixels, given in pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from backend.masks import brush

WIDTH, HEIGHT = 100, 50


def region(kind: str, label: str | None, value: dict[str, Any], control: str = "", **more: Any) -> dict[str, Any]:
    """One entry of a result as Label Studio stores it; by default every kind has a control of its own."""
    named = {} if label is None else {kind: [label]}
    place = {"from_name": control or kind, "to_name": "image", "original_width": WIDTH, "original_height": HEIGHT}
    return {"id": f"{kind} {label}", "type": kind, **place, "value": {**value, **named}, **more}


def box(label: str | None, left: float, top: float, width: float, height: float, **more: Any) -> dict[str, Any]:
    """A rectangle."""
    value = {"x": 100 * left / WIDTH, "y": 100 * top / HEIGHT, "width": width, "height": 100 * height / HEIGHT}
    return region("rectanglelabels", label, {**value, "rotation": more.pop("rotation", 0)}, **more)


def polygon(label: str | None, *points: tuple[float, float], **more: Any) -> dict[str, Any]:
    """A closed polygon."""
    scaled = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in points]
    return region("polygonlabels", label, {"points": scaled, "closed": True}, **more)


def square(label: str | None, left: float, top: float, side: float = 10, **more: Any) -> dict[str, Any]:
    """A square polygon."""
    right, bottom = left + side, top + side
    return polygon(label, (left, top), (right, top), (right, bottom), (left, bottom), **more)


def stroke(label: str, left: int, top: int, width: int = 10, height: int = 10, **more: Any) -> dict[str, Any]:
    """A brush region that covers a box."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + height, left : left + width] = True
    return region("brushlabels", label, {"format": "rle", "rle": brush.encode(mask)}, **more)
