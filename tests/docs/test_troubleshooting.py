"""docs/troubleshooting.md has every message that tells what to do, every check and every kind of failure."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.queue.failures import Failure
from backend.trouble import REFUSALS

ROOT = Path(__file__).parents[2]
TOLD = (
    "BulkError",
    "ConfigError",
    "ExportError",
    "ImageError",
    "ImageTooLargeError",
    "ImageUnavailable",
    "LocalError",
    "MemoryFileError",
    "NoFreePort",
    "OverrideError",
    "ProposalError",
    "RegionError",
    "SettingsError",
    "SetupError",
    "StudioError",
    "StudioUnavailable",
    "VersionMismatch",
    "WeightsError",
)
"""Exceptions whose messages people read. (Those of arguments and of `--set` name what they take.)"""
SHORTEST = 12
"""Letters of a literal piece that is long enough to be looked for."""


def plain(text: str) -> str:
    return " ".join(re.sub(r"[`*\\]", "", text).split())


PAGE = plain((ROOT / "docs" / "troubleshooting.md").read_text())


def messages() -> Iterator[tuple[str, list[str]]]:
    """Where each message is raised, and its literal pieces."""
    for path in sorted(
        [*(ROOT / "backend").rglob("*.py"), *(ROOT / "model").glob("*.py"), *(ROOT / "scripts").glob("*.py")]
    ):
        for node in ast.walk(ast.parse(path.read_text())):
            call = node.exc if isinstance(node, ast.Raise) else None
            if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] in TOLD and call.args:
                literals = [one.value for one in ast.walk(call.args[0]) if isinstance(one, ast.Constant)]
                pieces = [plain(one).strip(" .,:;('\"") for one in literals if isinstance(one, str)]
                yield f"{path.relative_to(ROOT)}:{node.lineno}", [one for one in pieces if len(one) >= SHORTEST]


def test_every_message_is_there() -> None:
    """A message counts when the longest of its literal pieces (up to 45 letters of it) is on the page."""
    found = [(place, max(pieces, key=len)[:45].strip()) for place, pieces in messages() if pieces]
    assert len(found) > 80
    missing = [f"{place}: {piece}" for place, piece in found if piece not in PAGE]
    assert not missing, "docs/troubleshooting.md lacks:\n" + "\n".join(missing)


@pytest.mark.parametrize("kind", list(Failure))
def test_every_kind_of_failure_is_there(kind: Failure) -> None:
    assert f"| {kind} |" in PAGE


def assigned(node: ast.AST) -> Iterator[tuple[str, object]]:
    """Name and constant of each assignment, those of tuples too."""
    if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name | ast.Tuple):
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        for name, value in zip(names, values, strict=False):
            if isinstance(name, ast.Name) and isinstance(value, ast.Constant):
                yield name.id, value.value


def test_every_check_of_the_doctor_is_there() -> None:
    checks = set()
    for path in (ROOT / "backend" / "doctor").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            checks |= {value for name, value in assigned(node) if name == "check"}
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("ok", "problem"):
                first = node.args[0]
                checks |= {first.value} if isinstance(first, ast.Constant) else set()
    assert len(checks) > 18
    missing = {check for check in checks if f"| {check} |" not in PAGE}
    assert not missing


@pytest.mark.parametrize("code", list(REFUSALS))
def test_every_way_in_which_redis_refuses_writes_is_there(code: str) -> None:
    assert f"({code} …). {plain(REFUSALS[code])}" in PAGE
