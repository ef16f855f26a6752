"""`python -m backend up`: everything on this machine, with a demo project to look at."""

from __future__ import annotations

import argparse
from pathlib import Path

from backend.local.console import RED, Console
from backend.local.ports import NoFreePort
from backend.local.processes import LocalError
from backend.local.services import ROOT
from backend.local.stack import Options, Stack
from backend.studio.client import StudioError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--port", type=_port, default=9090, metavar="P", help="port of the backend (default 9090)")
    parser.add_argument(
        "--label-studio-port", type=_port, default=8080, metavar="P", help="port of Label Studio (default 8080)"
    )
    parser.add_argument("--workers", type=_count, default=1, metavar="N", help="how many workers (default 1)")
    parser.add_argument("--no-label-studio", action="store_true", help="use a Label Studio of your own")
    parser.add_argument(
        "--data", type=Path, default=ROOT / ".run", metavar="DIR", help="folder for everything it keeps (default .run)"
    )


def run(args: argparse.Namespace) -> int:
    """Run until Ctrl-C or SIGTERM; return 0 after that, 1 when something didn't come up."""
    console = Console()
    options = Options(
        folder=args.data,
        port=args.port,
        label_studio_port=args.label_studio_port,
        workers=args.workers,
        with_label_studio=not args.no_label_studio,
    )
    try:
        Stack(options, console).run()
    except (LocalError, NoFreePort, StudioError) as error:
        console.say(console.paint(str(error), RED))
        return 1
    return 0


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a port (1 to 65535)")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a number of workers (1 to 64)")
    return int(text)
