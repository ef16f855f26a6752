"""Which tasks of a project, in the words of Label Studio's Data Manager."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class TaskFilter:
    """Which tasks of a project: all conditions hold.

    lacking: no prediction has this model version. holding: the model version of some prediction contains this text.
    With either of both a task comes with `predictions_model_versions`, as text with commas. unlabelled: it has no
    annotation. created_after, updated_after: times as Label Studio writes them (ISO 8601, UTC), exclusive. ids: it is
    one of these; none stands for any.
    """

    lacking: str = ""
    holding: str = ""
    unlabelled: bool = False
    created_after: str = ""
    updated_after: str = ""
    ids: tuple[int, ...] = ()

    def conditions(self) -> list[dict[str, Any]]:
        """The conditions as items of a filter."""
        found = []
        for operator, version in (("not_contains", self.lacking), ("contains", self.holding)):
            if version:  # 1.23 goes through the value as a list: letter by letter if it is text
                found.append(_condition("predictions_model_versions", operator, "List", [version]))
        for column, moment in (("created_at", self.created_after), ("updated_at", self.updated_after)):
            if moment:
                found.append(_condition(column, "greater", "Datetime", _moment(moment)))
        if self.ids:
            found.append(_condition("id", "in_list", "List", list(self.ids)))
        if self.unlabelled:
            found.append(_condition("total_annotations", "equal", "Number", 0))
        return found


def query(which: TaskFilter | None = None, after: int = 0) -> dict[str, Any]:
    """The query for the tasks that match, by rising id, those beyond `after` only."""
    items = [_condition("id", "greater", "Number", after), *(which.conditions() if which else ())]
    return {"filters": {"conjunction": "and", "items": items}, "ordering": ["tasks:id"]}


def _moment(text: str) -> str:
    """A time in the one form that filters of Label Studio 1.23 take."""
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _condition(column: str, operator: str, kind: str, value: Any) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}
