"""What Label Studio's editor sends of a text, points or boxes -> what is asked for. Nothing of it is trusted.

The *context* of an interactive request holds the regions that the annotator drew with one smart tool and has not
accepted yet, all of one label, as Label Studio 1.23 would store them (docs/interactive.md has examples). A text comes
with all the texts of its field, the newest last.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from backend.labeling.config import ImageTag, LabelingConfig
from model.vocabulary import plain

MOST_TEXT = 300
"""Characters of a text; CLIP reads 77 tokens of it, that is some 50 words."""
MOST_POINTS = 100
MOST_BOXES = 8
"""As many as one label may have regions (`backend.masks.results`)."""
NAME = 64
"""Characters of a region's id that count."""


class AskError(ValueError):
    """What was asked for cannot be answered; the message says why."""


@dataclass(frozen=True)
class Point:
    """A click, in percent of the image's width and height; whether it is in the object or beside it."""

    x: float
    y: float
    inside: bool = True


@dataclass(frozen=True)
class Box:
    """A rectangle, in percent of the image's width and height, turned about its first corner by degrees clockwise."""

    x: float
    y: float
    width: float
    height: float
    rotation: float = 0.0


@dataclass(frozen=True)
class Present:
    """A brush region that the task has already: its id, and its run lengths as base64."""

    id: str
    rle: str


@dataclass(frozen=True)
class Ask:
    """What is asked for, of one kind: a text, or points, or boxes, each box an object of its own.

    image, page: of which image of the task (`backend.labeling.config.Picture`). label: the value of the label that the
    answer gets. series: what stays the same while points are added, so that an
    answer takes the place of the one before. present: the regions that it may take the place of instead.
    """

    image: str
    page: int | None
    label: str
    series: str
    text: str = ""
    points: tuple[Point, ...] = ()
    boxes: tuple[Box, ...] = ()
    present: tuple[Present, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Ask:
        """Inverse of `to_json`."""
        points, boxes = (tuple(kind(**one) for one in data[f]) for kind, f in ((Point, "points"), (Box, "boxes")))
        present = tuple(Present(**one) for one in data["present"])
        return cls(**{**data, "points": points, "boxes": boxes, "present": present})


def read(context: object, config: LabelingConfig) -> Ask | None:
    """What the context of an interactive request asks for; None when it holds nothing (what was drawn is deleted).

    Raises:
        AskError: it cannot be answered: another tool, a label that takes no masks, numbers or texts that make no sense.
    """
    drawn = context.get("result") if isinstance(context, dict) else None
    if not isinstance(drawn, list) or not all(isinstance(one, dict) for one in drawn):
        raise AskError('the context must be {"result": [...]}, a list of regions')
    ours = [one for one in drawn if one.get("to_name") in {image.name for image in config.images}]
    if not ours:
        return None
    image = config.image(ours[-1]["to_name"])
    page = ours[-1].get("item_index", 0)
    if not isinstance(page, int):
        raise AskError("item_index is no number")
    ours = [one for one in ours if (one["to_name"], one.get("item_index", 0)) == (image.name, page)]
    if not all(isinstance(one.get("value"), dict) for one in ours):
        raise AskError("a region has no value")
    kind = _kind(ours[-1]["value"])
    readers = {"text": _text, "point": _points, "box": _boxes}
    asked = readers[kind]([one for one in ours if _kind(one["value"]) == kind], image)
    return asked and replace(asked, page=page if image.paged else None)


def _kind(value: Mapping[str, Any]) -> str:
    if "text" in value:
        return "text"
    if "x" in value and "y" in value and not {"radiusX", "points", "rle"} & value.keys():
        return "box" if "height" in value else "point"
    raise AskError("only texts, key points and rectangles can be answered, no other tool")


def _text(drawn: Sequence[Mapping[str, Any]], image: ImageTag) -> Ask | None:
    texts = drawn[-1]["value"]["text"]
    newest = texts[-1] if isinstance(texts, list) and texts else texts
    if newest == []:
        return None
    if not isinstance(newest, str):
        raise AskError("the text is no text")
    # No line breaks, no control characters, and nothing that is no text at all (half a surrogate pair).
    cleaned = re.sub(r"[\s\x00-\x1f\x7f]+", " ", newest).encode("utf-8", "ignore").decode().strip()
    if len(cleaned) > MOST_TEXT:
        raise AskError(f"the text has {len(cleaned)} characters; {MOST_TEXT} are read at most")
    return Ask(image.name, None, named_in(cleaned, image), plain(cleaned), text=cleaned) if plain(cleaned) else None


def named_in(text: str, image: ImageTag) -> str:
    """The label that a text names by its value, stored name or a prompt, the longest one; else the first label."""
    found = [
        (len(phrase), label.value)
        for label in image.all_labels
        for phrase in (label.value, label.name, *label.prompts)
        if re.search(rf"(?<!\w){re.escape(phrase.casefold())}(?!\w)", text.casefold())
    ]
    return max(found, key=lambda one: one[0])[1] if found else image.all_labels[0].value


def _points(drawn: Sequence[Mapping[str, Any]], image: ImageTag) -> Ask:
    name, same = _of_one_label(drawn)
    if len(same) > MOST_POINTS:
        raise AskError(f"{len(same)} points are more than the {MOST_POINTS} that are looked at")
    places = [_numbers(one["value"], "x", "y") for one in same]
    wanted = [_truth(one.get("is_positive", True)) for one in same]
    points = tuple(Point(x, y, inside) for (x, y), inside in zip(places, wanted, strict=True))
    if not all(0 <= point.x <= 100 and 0 <= point.y <= 100 for point in points):
        raise AskError("a point is outside of the image: x and y go from 0 to 100 percent")
    if not any(point.inside for point in points):
        raise AskError("there are only points of what is not meant; click on the object, too")
    return Ask(image.name, None, _value_of(name, image), _id(same[0]), points=points)


def _boxes(drawn: Sequence[Mapping[str, Any]], image: ImageTag) -> Ask:
    name, same = _of_one_label(drawn)
    if len(same) > MOST_BOXES:
        raise AskError(f"{len(same)} boxes are more than the {MOST_BOXES} that are looked at")
    sizes = ("x", "y", "width", "height", "rotation")
    boxes = tuple(Box(*_numbers({"rotation": 0, **one["value"]}, *sizes)) for one in same)
    for box in boxes:
        if box.width <= 0 or box.height <= 0:
            raise AskError("a box is empty")
        if box.rotation == 0 and not (box.x < 100 and box.y < 100 and box.x + box.width > 0 and box.y + box.height > 0):
            raise AskError("a box is outside of the image: x and y go from 0 to 100 percent")
    return Ask(image.name, None, _value_of(name, image), _id(same[0]), boxes=boxes)


def _of_one_label(drawn: Sequence[Mapping[str, Any]]) -> tuple[str | None, list[Mapping[str, Any]]]:
    """The label of the newest region, and all regions that have it."""
    names = [next(_names(one["value"]), None) for one in drawn]
    return names[-1], [one for one, name in zip(drawn, names, strict=True) if name == names[-1]]


def _names(value: Mapping[str, Any]) -> Iterator[str]:
    """A region's labels; a tool without labels has none."""
    for key, listed in value.items():
        if isinstance(key, str) and key.endswith("labels") and isinstance(listed, list):
            yield from (name for name in listed if isinstance(name, str))


def _value_of(name: str | None, image: ImageTag) -> str:
    """The value of a label by what the editor calls it: its stored name (alias) or value."""
    if name is None:
        return image.all_labels[0].value
    for label in image.all_labels:
        if name in (label.name, label.value):
            return label.value
    known = ", ".join(label.value for label in image.all_labels)
    raise AskError(f"the smart tool's label {name[:NAME]!r} is none of those that take masks: {known}")


def _numbers(value: Mapping[str, Any], *names: str) -> list[float]:
    numbers = [value.get(name) for name in names]  # no nan is less than anything
    if not all(isinstance(one, int | float) and not isinstance(one, bool) and abs(one) < 1e6 for one in numbers):
        raise AskError(f"{', '.join(names)} must be numbers")
    return [float(one) for one in numbers if one is not None]


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise AskError("is_positive must be true or false")
    return value


def _id(region: Mapping[str, Any]) -> str:
    return str(region.get("id"))[:NAME]


def within(box: Box, height: int, width: int) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom in pixels of what a box covers of an image; None for nothing.

    A turned box counts by all that it reaches. Right and bottom are beyond it.
    """
    turn, x, y = math.radians(box.rotation), box.x * width / 100, box.y * height / 100
    across, down = box.width * width / 100, box.height * height / 100
    corners = [
        (x + a * math.cos(turn) - b * math.sin(turn), y + a * math.sin(turn) + b * math.cos(turn))
        for a, b in ((0, 0), (across, 0), (0, down), (across, down))
    ]
    # Rounded before: half a turn must not reach a pixel further because of the last digit of a sine.
    xs, ys = zip(*((round(one, 6), round(other, 6)) for one, other in corners), strict=True)
    left, top = max(0, math.floor(min(xs))), max(0, math.floor(min(ys)))
    right, bottom = min(width, math.ceil(max(xs))), min(height, math.ceil(max(ys)))
    return (left, top, right, bottom) if left < right and top < bottom else None


def pixel(point: Point, height: int, width: int) -> tuple[int, int]:
    """(x, y) of the pixel that a point lies in, the last one at 100 percent."""
    return min(width - 1, int(point.x * width / 100)), min(height - 1, int(point.y * height / 100))
