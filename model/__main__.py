"""The method on the command line: `python -m model segment | visualize | evaluate | report | benchmark | ...`."""

import argparse
import sys
from collections.abc import Sequence

from model.commands import benchmark, evaluate, presets, regions, report, segment, visualize
from model.commands.common import run

COMMANDS = (segment, visualize, evaluate, report, benchmark, regions, presets)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 2 with a message on stderr when the input is wrong."""
    return run(parser().parse_args(arguments))


def parser() -> argparse.ArgumentParser:
    """Describe the commands and their flags."""
    root = argparse.ArgumentParser(prog="python -m model", description=__doc__)
    commands = root.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add(commands)
    return root


if __name__ == "__main__":
    sys.exit(main())
