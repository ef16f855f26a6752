"""`python -m backend COMMAND`: one file per command in `backend/commands/`."""

from __future__ import annotations

import argparse
import importlib
import sys

from backend import logs
from backend.settings import SettingsError

COMMANDS = {
    "up": "start Redis, workers, courier, backend and Label Studio here, with a demo project",
    "serve": "the web process that Label Studio calls",
    "worker": "a GPU worker: segments what is queued",
    "courier": "delivers predictions, expands webhooks, gives back what was lost",
    "prelabel": "pre-label a whole project, with progress; or try its words on some tasks first",
    "pause": "let the jobs of a project, or all, wait",
    "resume": "let what was paused go on",
    "cancel": "empty the queue of a project",
    "export": "annotations or predictions of a project, as PNG masks or in COCO's or YOLO's format",
    "corrections": "what annotators changed, and thresholds that follow from it",
    "requeue": "give failed tasks another chance",
    "status": "what is queued, running, failed (and why) and not yet delivered",
    "doctor": "check each link of the chain from Redis to Label Studio, and tell what to do",
}


WORKERS_ONLY = ("torch", "torchvision", "open_clip")
"""What only workers have (requirements.txt); the web process, the courier and most commands do without."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; only its own module (and what that needs) is imported."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="python -m backend", description="CaR pre-labelling for Label Studio.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_text in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".")
        if argv[:1] == [name]:
            importlib.import_module(f"backend.commands.{name}").add_arguments(subparser)
    args = parser.parse_args(argv)
    logs.configure(args.command)
    try:
        code: int = importlib.import_module(f"backend.commands.{args.command}").run(args)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name not in WORKERS_ONLY:
            raise
        print(
            f"{' '.join(argv)} needs {error.name}, which is not installed here: requirements-web.txt has what the web "
            "process and the courier need. Install requirements.txt, or use the image of the worker.",
            file=sys.stderr,
        )
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
