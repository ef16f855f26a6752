"""docs/guarantees.md names a test for each line: it has to be there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_test_that_the_guarantees_name_is_there() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", text))
    written = set(re.findall(r"^def (test_\w+)", "\n".join(map(Path.read_text, ROOT.glob("tests/**/*.py"))), re.M))
    assert len(named) > 40
    assert named - written == set()
    for path in re.findall(r"`((?:tests|backend|model)/[\w/]+\.py)`", text):
        assert (ROOT / path).is_file(), path
