"""The commands that the documentation shows: its shell blocks, and whatever else in it begins with `python -m`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md")))
RUN = (ROOT / "README.md", ROOT / "docs" / "quickstart.md")
"""The pages whose commands are run, but for blocks that say why not; see tests/e2e/test_local.py."""
START = "make run"

_BLOCK = re.compile(r"^(?:<!-- not run: (?P<why>[^>]+) -->\n)?```sh\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """A block of shell commands; `why` says why it is not run, empty when it is."""

    page: Path
    code: str
    why: str

    @property
    def lines(self) -> list[str]:
        """Its commands, without comments, continued lines as one."""
        lines = self.code.replace("\\\n", " ").splitlines()
        return [line for line in (re.sub(r"(^|\s)#.*", "", one).strip() for one in lines) if line]


def blocks(page: Path) -> list[Block]:
    """The shell blocks of a page, in order."""
    return [Block(page, one["code"], one["why"] or "") for one in _BLOCK.finditer(page.read_text())]


def script(page: Path) -> str:
    """All that is run of a page, as one script; `make run` is not in it, because it goes on until Ctrl-C."""
    run = [block.code for block in blocks(page) if not block.why and block.lines != [START]]
    return "\n".join(["set -eu", *run])


def shown(page: Path) -> Iterator[str]:
    """Each single command that a page shows in blocks, in indented lines and within sentences."""
    text = page.read_text()
    for block in blocks(page):
        for line in block.lines:
            yield from re.split(r"\s(?:&&|\|\||[|;&>]|>>)(?:\s|$)", line)
    rest = re.sub(r"(?ms)^```.*?^```$", "", text)
    yield from (line.strip() for line in re.findall(r"(?m)^    (\S.*)$", rest))
    yield from _INLINE.findall(rest)
