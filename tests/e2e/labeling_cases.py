"""A labeling config for each attribute, beside one without it: what both give is tested, and shown in the docs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.e2e.support import SCENES

WALL, DRINK, SQUARE = (SCENES / "images" / f"{number}.png" for number in ("000", "001", "006"))
"""A moai, the Tokyo tower and Firefox' logo before a wall; Coca-Cola's, Mount Fuji; a cat, a castle, an umbrella."""


def address(image: Path | Image.Image) -> str:
    """An image as a data URI."""
    buffer = io.BytesIO()
    if isinstance(image, Path):
        buffer.write(image.read_bytes())
    else:
        image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def twins() -> Image.Image:
    """A scene with two of each: the wall beside itself in a mirror."""
    wall = np.asarray(Image.open(WALL).convert("RGB"))
    return Image.fromarray(np.hstack([wall, wall[:, ::-1]])[:, 150:-150])


COLORS = ("#ff2d55", "#ffcc00", "#30d5ff", "#7d5cff")


def labels(*names: str) -> str:
    """Tags `<Label>`, each of a name or of attributes, in colours that are seen well."""
    attributes = (name if "=" in name else f'value="{name}"' for name in names)
    return "".join(f'<Label {one} background="{color}"/>' for one, color in zip(attributes, COLORS, strict=False))


def control(kind: str, name: str, inside: str, attributes: str = "", to_name: str = "image") -> str:
    return f'<{kind}Labels name="{name}" toName="{to_name}" {attributes}>{inside}</{kind}Labels>'


def config(*controls: str, image: str = '<Image name="image" value="$image"/>') -> str:
    return f"<View>{image}{''.join(controls)}</View>"


def brush(*names: str, attributes: str = "") -> str:
    """A config with one BrushLabels control."""
    return config(control("Brush", "mask", labels(*names), attributes))


@dataclass(frozen=True)
class Case:
    """One attribute: a labeling config with it and one without (None: there is nothing to compare with).

    expected: what is predicted with it, control and stored label -> number of regions. data: of the task.
    """

    name: str
    config: str
    expected: Mapping[tuple[str, str], int]
    without: str | None = None
    data: Mapping[str, Any] | None = None

    @property
    def task(self) -> Mapping[str, Any]:
        return self.data or {"image": address(WALL)}


THREE = ("moai", "tokyo tower", "firefox logo")
BASE = brush(*THREE)
DRINKS = {"image": address(DRINK)}
TWINS = {"image": address(twins())}
BOXES = control("Rectangle", "box", labels("moai", "firefox logo"))
OUTLINES = control("Polygon", "outline", labels(*THREE))
MASKS = control("Brush", "mask", labels(*THREE))
HALF = '<View style="width: 50%">{}</View>'
SIDE_BY_SIDE = '<View><View style="display: flex; gap: 8px">{}{}</View></View>'


def beside(name: str, field: str, *names: str) -> str:
    """An image with a brush of its own, as one half of a View."""
    own = control("Brush", f"mask_{name}", labels(*names), to_name=name)
    return HALF.format(f'<Image name="{name}" value="${field}"/>{own}')


def mask(*names: str) -> dict[tuple[str, str], int]:
    return {("mask", name): 1 for name in names}


CASES = (
    Case(
        "predicted_values",
        brush('value="Soft drink" predicted_values="coca cola logo, coca cola"'),
        mask("Soft drink"),
        brush("Soft drink"),
        DRINKS,
    ),
    Case(
        "car_prompt",
        brush('value="Head" car_prompt="moai"', "tokyo tower"),
        mask("Head", "tokyo tower"),
        brush("Head", "tokyo tower"),
    ),
    Case("alias", brush('value="Head" car_prompt="moai" alias="statue"'), mask("statue")),
    Case("label-threshold", brush('value="moai" model_score_threshold="0.96"', *THREE[1:]), mask(*THREE[1:]), BASE),
    Case(
        "control-threshold", brush(*THREE, attributes='model_score_threshold="0.91"'), mask("moai", "tokyo tower"), BASE
    ),
    Case(
        "car_group",
        brush("moai", "tokyo tower", 'value="road" car_group="stuff"'),
        mask("moai", "tokyo tower", "road"),
        brush("moai", "tokyo tower", "road"),
    ),
    Case(
        "model_skip",
        config(MASKS, BOXES.replace('name="box"', 'name="box" model_skip="true"')),
        mask(*THREE),
        config(MASKS, BOXES),
    ),
    Case("car_preset", brush("guitar", attributes='car_preset="voc"'), mask("guitar"), brush("guitar")),
    Case("car_refine", brush(*THREE, attributes='car_refine="none"'), mask(*THREE), BASE),
    Case("car_background", brush(*THREE, attributes='car_background="none"'), mask(*THREE), BASE),
    Case("car_lambda", brush(*THREE, attributes='car_lambda="0.9"'), mask("moai", "tokyo tower"), BASE),
    Case(
        "car_instances",
        config(control("Rectangle", "box", labels("moai", "firefox logo"), 'car_instances="components"')),
        {("box", "moai"): 2, ("box", "firefox logo"): 2},
        config(BOXES),
        TWINS,
    ),
    Case("polygons", config(OUTLINES), {("outline", name): 1 for name in THREE}, BASE),
    Case("rectangles", config(BOXES), {("box", "moai"): 1, ("box", "firefox logo"): 1}, BASE),
    Case(
        "controls",
        config(control("Brush", "mask", labels("tokyo tower")), control("Polygon", "outline", labels("moai")), BOXES),
        {("mask", "tokyo tower"): 1, ("outline", "moai"): 1, ("box", "moai"): 1, ("box", "firefox logo"): 1},
    ),
    Case(
        "images",
        SIDE_BY_SIDE.format(beside("front", "a", *THREE), beside("back", "b", "cat", "castle")),
        {
            **{("mask_front", name): 1 for name in THREE},
            ("mask_back", "cat"): 1,
            ("mask_back", "castle"): 1,
        },
        data={"a": address(WALL), "b": address(SQUARE)},
    ),
    Case(
        "pages",
        config(control("Brush", "mask", labels("moai", "cat")), image='<Image name="image" valueList="$pages"/>'),
        mask("moai", "cat"),
        data={"pages": [address(WALL), address(SQUARE)]},
    ),
    Case(
        "dynamic",
        config(control("Brush", "mask", "", 'value="$words"')),
        mask("moai", "tower"),
        data={
            "image": address(WALL),
            "words": [{"value": "moai"}, {"value": "Tower", "alias": "tower", "predicted_values": "tokyo tower"}],
        },
    ),
)
