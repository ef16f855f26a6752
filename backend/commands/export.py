"""`python -m backend export`: annotations or predictions of a project into files that training code reads."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from backend.export.choice import Plan
from backend.export.exporter import Exporter, ExportError, Summary
from backend.images.fetcher import fetcher_of
from backend.labeling.parsing import ConfigError, parse_config
from backend.settings import Settings, load_settings
from backend.studio.client import Studio, StudioError

SHOWN = 10
"""Problems that the summary names."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--project", type=int, required=True, metavar="ID")
    parser.add_argument("--format", choices=["png", "coco", "yolo-seg"], required=True)
    parser.add_argument("--source", choices=["annotations", "predictions"], default="annotations")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: export-ID-FORMAT)")
    parser.add_argument("--images", action="store_true", help="write the images, too, turned as their EXIF says")
    parser.add_argument("--version", default="", metavar="V", help="of predictions: this model_version, not the newest")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.5,
        metavar="PIXELS",
        help="how far YOLO's outlines may be off (default: 0.5)",
    )


def run(args: argparse.Namespace) -> int:
    """Export; 0 when all was written, 1 when some tasks could not be, 2 when nothing could."""
    settings = load_settings()
    out = args.out or Path(f"export-{args.project}-{args.format}")
    try:
        summary = export(settings, args, out)
    except (ExportError, ConfigError, StudioError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    print(as_text(summary, args.source, out))
    return 1 if summary.problems else 0


def export(settings: Settings, args: argparse.Namespace, out: Path) -> Summary:
    """Write the project's tasks into `out`. Raises ExportError, ConfigError, StudioError."""
    studio = Studio(settings.label_studio_url, settings.label_studio_api_key.get_secret_value())
    project = studio.project(args.project)
    if project is None:
        raise ExportError(f"{studio.url} has no project {args.project}, or the token may not see it.")
    config = parse_config(project["label_config"], settings.car_preset, skipped=True)
    names = tuple(config.names())
    plan = Plan(args.project, args.format, args.source, names, args.version, args.tolerance, args.images)
    fetcher = fetcher_of(settings, studio.authorization)
    exporter = Exporter(plan, config, out, fetcher.fetch, studio)
    with tqdm(
        total=project.get("task_number"), initial=exporter.summary.tasks, unit="task", file=sys.stderr, disable=None
    ) as bar:
        return exporter.run(exporter.tasks(), bar.update)


def as_text(summary: Summary, source: str, out: Path) -> str:
    """What happened, for people."""
    lines = [f"Written to {out}: {summary.written}. Without {source}: {summary.without}."]
    if summary.problems:
        lines.append(f"{len(summary.problems)} could not be written:")
        shown = list(summary.problems.items())[:SHOWN]
        lines += [f"  task {task}: {reason}" for task, reason in shown]
        if len(summary.problems) > SHOWN:
            lines.append(f"  and {len(summary.problems) - SHOWN} more")
    return "\n".join(lines)
