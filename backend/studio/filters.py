"""Which tasks of a project, in the words of Label Studio's Data Manager."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TaskFilter:
    """Which tasks of a project: all conditions hold.

    lacking: no prediction has this model version. holding: the model version of some prediction contains this text.
    With either of both a task comes with `predictions_model_versions`, as text with commas. unlabelled: it has no
    annotation.
    """

    lacking: str = ""
    holding: str = ""
    unlabelled: bool = False

    def conditions(self) -> list[dict[str, Any]]:
        """The conditions as items of a filter."""
        found = []
        for operator, version in (("not_contains", self.lacking), ("contains", self.holding)):
            if version:  # 1.23 goes through the value as a list: letter by letter if it is text
                found.append(_condition("predictions_model_versions", operator, "List", [version]))
        if self.unlabelled:
            found.append(_condition("total_annotations", "equal", "Number", 0))
        return found


def query(which: TaskFilter | None = None, after: int = 0) -> dict[str, Any]:
    """The query for the tasks that match, by rising id, those beyond `after` only."""
    items = [_condition("id", "greater", "Number", after), *(which.conditions() if which else ())]
    return {"filters": {"conjunction": "and", "items": items}, "ordering": ["tasks:id"]}


def _condition(column: str, operator: str, kind: str, value: Any) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}
