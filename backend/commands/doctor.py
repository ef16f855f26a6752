"""`python -m backend doctor`: what is wrong in the chain from Redis to Label Studio, and what to do."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from backend.doctor.examine import DEFAULT_URL, examine
from backend.doctor.findings import as_text, exit_code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--project", type=int, metavar="ID", help="look at this project of Label Studio too")
    parser.add_argument(
        "--url",
        metavar="URL",
        help=f"the web process (default: where the project's model is connected, else {DEFAULT_URL})",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list")


def run(args: argparse.Namespace) -> int:
    """Print one line per check; 1 when there is a problem."""
    findings = list(examine(args.project, args.url))
    print(json.dumps([asdict(finding) for finding in findings], indent=1) if args.json else as_text(findings))
    return exit_code(findings)
