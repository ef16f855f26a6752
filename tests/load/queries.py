"""Queries of Label Studio's Data Manager, as far as the backend asks them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from operator import eq, ge, gt
from typing import Any

from tests.load.records import TIME, Task


class Refused(Exception):
    """Label Studio's answer to what it does not accept: a status, and words or a body."""

    def __init__(self, status: int, detail: str | Mapping[str, Any]):
        super().__init__(str(detail))
        self.status = status
        self.body = {"detail": detail} if isinstance(detail, str) else dict(detail)


FIELDS: dict[str, Callable[[Task], Any]] = {
    "id": lambda task: task.number,
    "total_annotations": lambda task: len(task.annotations),
    "created_at": lambda task: task.created,
    "updated_at": lambda task: task.updated,
}
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "equal": eq,
    "greater": gt,
    "greater_or_equal": ge,
    "in_list": lambda value, listed: value in listed,
}
ORDERINGS: dict[str, Callable[[Task], Any]] = {
    "tasks:id": lambda task: task.number,
    "-tasks:updated_at": lambda task: -task.updated.timestamp(),
}


def select(tasks: Sequence[Task], query: Mapping[str, Any]) -> list[Task]:
    """The tasks that match a query, in its order. Raises Refused for what the stub does not know."""
    (ordering,) = query.get("ordering", ["tasks:id"])
    if ordering not in ORDERINGS:
        raise Refused(400, f"The stub does not know the ordering {ordering}.")
    filters = query.get("filters") or {"conjunction": "and", "items": []}
    if filters["conjunction"] != "and":
        raise Refused(400, "The stub knows filters joined by and only.")
    selected = query.get("selectedItems") or {}
    # 1.23 takes an empty selection for none at all, so that all tasks match.
    included = set(selected.get("included") or ()) if selected.get("all") is False else set()
    found = [task for task in tasks if not included or task.number in included]
    for condition in filters["items"]:
        found = [task for task in found if _matches(task, condition)]
    return sorted(found, key=ORDERINGS[ordering])


def _matches(task: Task, condition: Mapping[str, Any]) -> bool:
    column = str(condition["filter"]).removeprefix("filter:tasks:")
    operator, value = condition["operator"], condition["value"]
    if column == "predictions_model_versions" and operator in ("contains", "not_contains"):
        held = any(text in version for text in value for version in task.versions())
        return bool(held) == (operator == "contains")
    if column not in FIELDS or operator not in OPERATORS:
        raise Refused(400, f"The stub does not know the filter {column} {operator}.")
    if condition["type"] == "Datetime":
        value = datetime.strptime(value, TIME).replace(tzinfo=UTC)
    return OPERATORS[operator](FIELDS[column](task), value)
