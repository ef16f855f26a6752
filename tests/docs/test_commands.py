"""Every command that the documentation shows is one that exists, with options that it knows.

Those of README and the quick start are run as well: tests/e2e/test_local.py.
"""

from __future__ import annotations

import argparse
import importlib
import re
from itertools import pairwise
from pathlib import Path

import pytest

from backend.__main__ import COMMANDS
from model.__main__ import parser as model_parser
from tests.deployment.support import compose
from tests.docs.blocks import PAGES, ROOT, RUN, START, blocks, script, shown

TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def parsers() -> dict[tuple[str, str], argparse.ArgumentParser]:
    """(package, command) -> what parses its options."""
    found = {}
    for name in COMMANDS:
        found["backend", name] = argparse.ArgumentParser(prog=name)
        importlib.import_module(f"backend.commands.{name}").add_arguments(found["backend", name])
    (commands,) = (one for one in model_parser()._actions if isinstance(one, argparse._SubParsersAction))
    return found | {("model", name): parser for name, parser in commands.choices.items()}


PARSERS = parsers()


def complaint(command: str) -> str:
    """What is wrong with a command, empty when nothing is, or when it is none of ours."""
    words = re.sub(r"#.*|[\[\]'\"\\]|…|\.\.\.", " ", command).split()
    if words[:1] == ["make"] and len(words) > 1 and words[1].isalpha():
        return "" if words[1] in TARGETS else f"no target {words[1]}"
    if words[:2] == ["docker", "compose"]:
        return _of_compose(words[2:])
    at = next((i for i, word in enumerate(words) if re.search(r"(^|/)python(3(\.\d+)?)?$", word)), None)
    if at is None or words[at + 1 : at + 2] != ["-m"] or len(words) < at + 3:
        return ""
    package, *rest = words[at + 2 :]
    if package.startswith("tests."):
        return "" if (ROOT / f"{package.replace('.', '/')}.py").exists() else f"no module {package}"
    if package not in ("backend", "model") or not rest or not re.fullmatch("[a-z]+", rest[0]):
        return ""
    name, *rest = rest
    if (package, name) not in PARSERS:
        return f"{package} has no command {name}"
    known = PARSERS[package, name]._option_string_actions
    unknown = [word for word in rest if re.match(r"--[a-z]", word) and word.partition("=")[0] not in known]
    return f"{name} does not know {', '.join(unknown)}" if unknown else ""


def _of_compose(words: list[str]) -> str:
    services = compose()["services"]
    if words[:1] == ["exec"]:
        name = next(word for word in words[1:] if not word.startswith("-"))
        rest = words[words.index(name) + 1 :]
        return complaint(" ".join(rest)) if name in services else f"no service {name}"
    scaled = [word.partition("=")[0] for flag, word in pairwise(words) if flag == "--scale"]
    return ", ".join(f"no service {name}" for name in scaled if name not in services)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist_and_know_their_options(page: Path) -> None:
    wrong = {command: said for command in shown(page) if (said := complaint(command))}
    assert not wrong


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("python -m backend status --json", ""),
        ("python -m backend statsu", "no command statsu"),
        (".venv/bin/python -m model segment a.png --label x", "--label"),
        ("docker compose exec -T backend python -m backend prelabel --projekt 3", "--projekt"),
        ("docker compose exec web python -m backend status", "no service web"),
        ("make runn", "no target runn"),
        ("python -m tests.load.nothing", "no module"),
        ("ls -la --anything", ""),
    ],
)
def test_wrong_ones_would_be_found(command: str, words: str) -> None:
    assert (words in complaint(command)) if words else complaint(command) == ""


def test_what_is_run_and_what_is_not() -> None:
    assert sum(len(list(shown(page))) for page in PAGES) > 100
    for page in RUN:
        found = blocks(page)
        assert page.read_text().count("```sh\n") == len(found)
        assert [START] in [block.lines for block in found]
        assert all(len(block.why) > 5 for block in found if block.why)
    assert len(script(RUN[1]).splitlines()) > 10
    for page in PAGES:  # what a person would do to a machine, or with a service that is not here, says so
        for block in blocks(page):
            outside = re.search(r"^(sudo|docker|kubectl|\S*pip) ", block.code, re.MULTILINE)
            assert block.why or not outside, f"{page.name}: {block.code}"
