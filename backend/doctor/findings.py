"""What a check says: a verdict, what was seen, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    PROBLEM = "problem"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True)
class Finding:
    """One line of the report; `fix` is empty where there is nothing to do."""

    check: str
    verdict: Verdict
    detail: str
    fix: str = ""


def ok(check: str, detail: str) -> Finding:
    """All is well."""
    return Finding(check, Verdict.OK, detail)


def problem(check: str, detail: str, fix: str) -> Finding:
    """Something is wrong, and this mends it."""
    return Finding(check, Verdict.PROBLEM, detail, fix)


def unknown(check: str, detail: str, fix: str = "") -> Finding:
    """It could not be looked at, mostly because of an earlier problem."""
    return Finding(check, Verdict.UNKNOWN, detail, fix)


def exit_code(findings: Sequence[Finding]) -> int:
    """1 when there is a problem."""
    return int(any(finding.verdict is Verdict.PROBLEM for finding in findings))


def as_text(findings: Sequence[Finding]) -> str:
    """The report for people: one line per check, the fix in a line of its own below."""
    wide = max((len(finding.check) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{finding.verdict:<11}  {finding.check:<{wide}}  {finding.detail}")
        if finding.fix:
            lines.append(f"{'':<11}  {'':<{wide}}  -> {finding.fix}")
    return "\n".join(lines)
