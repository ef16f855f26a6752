"""Reading what is deployed: the compose file as compose would fill it in, and our commands without running them."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from backend.__main__ import COMMANDS

ROOT = Path(__file__).parents[2]


def filled_in(text: str, env: Mapping[str, str]) -> str:
    """Replace ${NAME} and ${NAME:-default} as compose does, and $$ by $."""

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return env.get(found[1]) or (found[3] or "")

    return re.sub(r"\$\$|\$\{([A-Z_]+)(:-([^}]*))?\}", value, text)


def compose(**env: str) -> dict[str, Any]:
    """docker-compose.yml with these variables, its anchors and merges resolved."""
    found: dict[str, Any] = yaml.safe_load(filled_in((ROOT / "docker-compose.yml").read_text(), env))
    return found


def parsed_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments of `python -m backend` as that command reads them; SystemExit when it does not know one."""
    name, *options = map(str, arguments)
    assert name in COMMANDS, name
    parser = argparse.ArgumentParser(prog=name)
    importlib.import_module(f"backend.commands.{name}").add_arguments(parser)
    return parser.parse_args(options)
