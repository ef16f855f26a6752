"""What `scripts/setup` does to environments that are there already, without doing it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, working in an empty folder, with its commands noted in `commands` instead of run."""
    spec = importlib.util.spec_from_file_location("environments", ROOT / "scripts" / "environments.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("requirements.txt", "requirements-dev.txt"):
        (tmp_path / name).write_text(f"{name}\n")
    (tmp_path / ".venv").mkdir()
    module.commands = []  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "check_machine", lambda: None)
    monkeypatch.setattr(module, "find_uv", lambda: ["uv"])
    monkeypatch.setattr(module, "run", module.commands.append)
    return module


@pytest.mark.parametrize(
    ("name", "is_there", "verbs"),
    [
        ("product", True, ["install"]),  # adds; a sync would take the tools of the tests away
        ("product", False, ["venv", "sync"]),
        ("tools", True, ["sync"]),
        ("tools", False, ["venv", "sync"]),
    ],
)
def test_the_product_takes_nothing_away(
    environments: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, is_there: bool, verbs: list[str]
) -> None:
    monkeypatch.setattr(environments, "works", lambda command: is_there)
    environments.make_environment(name)
    assert [one[2] if one[1] == "pip" else one[1] for one in environments.commands] == verbs
    environments.make_environment(name)
    assert len(environments.commands) == len(verbs), "the second time there is nothing to do"


def test_tools_contain_the_product(environments: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "works", lambda command: True)
    environments.make_environment("tools")
    done = len(environments.commands)
    environments.make_environment("product")
    assert len(environments.commands) == done


def test_what_the_product_needs_is_installed_as_locked(
    environments: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "works", lambda command: True)
    environments.make_environment("product")
    (command,) = environments.commands
    assert {"--no-deps", "--require-hashes"} < set(command)
    assert command[command.index("--requirements") + 1] == str(environments.ROOT / "requirements.txt")


def test_it_is_the_standard_library_only() -> None:
    source = (ROOT / "scripts" / "environments.py").read_text()
    imported = {line.split()[1].split(".")[0] for line in source.splitlines() if line.startswith(("import ", "from "))}
    assert imported <= sys.stdlib_module_names
