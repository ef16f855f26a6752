"""A project and a task as the stub of Label Studio keeps them, and as Label Studio 1.23 sends them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.load.image_codes import code_of_prediction

TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
"""How Label Studio writes times, and how the Data Manager's filters want them."""


def now() -> datetime:
    return datetime.now(UTC)


def upload(project: int, number: int) -> str:
    """The address of the image that was uploaded as the `number`th: no other upload ever has it."""
    return f"/data/upload/{project}/{number:08x}-photo.jpg"


def uploaded(address: str) -> tuple[int, int] | None:
    """The inverse of `upload`: (project, number), None for another address."""
    found = re.fullmatch(r"/data/upload/(\d+)/([0-9a-f]{8})-photo\.jpg", address)
    return (int(found[1]), int(found[2], 16)) if found else None


@dataclass
class Project:
    """A project; its `number` is its id."""

    number: int
    title: str
    config: str
    created: datetime = field(default_factory=now)
    model_version: str = ""

    @property
    def uid(self) -> str:
        """How Label Studio names it to ML backends."""
        return f"{self.number}.{int(self.created.timestamp())}"

    def row(self, tasks: int) -> dict[str, Any]:
        """As /api/projects/ID/ and webhooks have it; `tasks` is how many tasks it has."""
        return {
            "id": self.number,
            "title": self.title,
            "label_config": self.config,
            "created_at": self.created.strftime(TIME),
            "model_version": self.model_version,
            "task_number": tasks,
            "is_published": True,
            "show_collab_predictions": True,
            "evaluate_predictions_automatically": False,
        }


@dataclass
class Task:
    """A task, its predictions (id -> prediction) and annotations."""

    number: int
    project: int
    data: dict[str, Any]
    created: datetime = field(default_factory=now)
    updated: datetime = field(default_factory=now)
    predictions: dict[int, dict[str, Any]] = field(default_factory=dict)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    first_stored: datetime | None = None
    _codes: dict[int, int | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.updated = self.created

    def touch(self) -> None:
        """Note that it has changed."""
        self.updated = now()

    def versions(self) -> Counter[str]:
        """The model versions of its predictions, with how many have each."""
        return Counter(str(one.get("model_version")) for one in self.predictions.values())

    def wrong(self, codes: int) -> int:
        """How many of its predictions were not made from its present image, where there are so many codes."""
        image = uploaded(str(self.data.get("image")))
        wanted = image[1] % codes if image else -1
        for number, prediction in self.predictions.items():
            if number not in self._codes:
                self._codes[number] = code_of_prediction(prediction)
        return sum(self._codes[number] != wanted for number in self.predictions)

    def bare(self) -> dict[str, Any]:
        """As webhooks and the Data Manager's list have it: without what hangs on it."""
        return {
            "id": self.number,
            "data": dict(self.data),
            "created_at": self.created.strftime(TIME),
            "updated_at": self.updated.strftime(TIME),
            "is_labeled": bool(self.annotations),
            "overlap": 1,
            "inner_id": self.number,
            "project": self.project,
            "updated_by": None,
            "file_upload": self.number,
            "meta": {},
            "comment_authors": [],
            "comment_count": 0,
            "cancelled_annotations": 0,
            "total_annotations": len(self.annotations),
            "total_predictions": len(self.predictions),
        }

    def whole(self) -> dict[str, Any]:
        """As /predict and a list with `fields=all` have it: with its predictions and annotations."""
        hangs = {"annotations": list(self.annotations), "predictions": list(self.predictions.values())}
        return {**self.bare(), **hangs}
