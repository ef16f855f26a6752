"""`python -m model report`: a page about each evaluation in a results folder."""

import argparse
from pathlib import Path

from model.commands.common import Commands
from model.presets import PresetError


def add(commands: Commands) -> None:
    """Describe the command and its flags."""
    report = commands.add_parser("report", help="write a page with charts and images about results of `evaluate`")
    report.add_argument("results", type=Path, metavar="DIR", help="what `evaluate --results DIR` has written")
    report.add_argument(
        "--out", type=Path, metavar="FILE.html", help="where to write it (default: DIR/RUN/report.html)"
    )
    report.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the pages and print where they are."""
    from model.benchmarks.report import write
    from model.benchmarks.results import runs

    found = list(runs(options.results))
    if options.out and len(found) > 1:
        names = ", ".join(str(one.folder) for one in found)
        raise PresetError(f"--out takes one page, and there are several runs: name one of {names}.")
    for one in found:
        target = options.out or one.folder / "report.html"
        write(one, target)
        print(target)
    return 0
