"""`python -m model evaluate`: compare masks with a data set's ground truth, or print the paper's tables."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from model.commands.common import Commands, add_settings, count, overrides
from model.presets import PresetError

if TYPE_CHECKING:
    from model.benchmarks.plans import Plan
    from model.benchmarks.tables import Cell


def add(commands: Commands) -> None:
    """Describe the command and its flags."""
    evaluate = commands.add_parser("evaluate", help="compare with ground truth; print the paper's tables")
    evaluate.add_argument("dataset", nargs="?", metavar="DATASET", help="folder, voc, coco-object, refcoco, ...")
    evaluate.add_argument("--root", type=Path, metavar="DIR", help="where its files are; see docs/benchmarks.md")
    evaluate.add_argument("--split", metavar="NAME", help="which part of it (default: the published one)")
    evaluate.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    evaluate.add_argument("--protocol", choices=["default", "car"], default="default", help="car: the released rule")
    evaluate.add_argument("--classes", metavar="NAME", help="search labels by the texts of a benchmark: voc, ade, ...")
    evaluate.add_argument("--results", type=Path, metavar="DIR", help="keep each image's results; go on where they end")
    evaluate.add_argument("--workers", type=count, default=1, metavar="N", help="so many processes (default: 1)")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    evaluate.add_argument("--report", type=Path, metavar="FILE.html", help="write a page with charts and images there")
    evaluate.add_argument("--table", metavar="N", help="print a table of the paper instead: 1 to 8, I, J")
    rows = evaluate.add_mutually_exclusive_group()
    rows.add_argument("--run", dest="run_rows", action="store_true", help="with --table: measure its rows first")
    rows.add_argument("--commands", action="store_true", help="with --table: list the commands that measure its rows")
    add_settings(evaluate, preset=None, default="the data set's own, or demo")
    evaluate.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Evaluate a data set and print the figures; or print a table."""
    if options.limit is not None and options.limit < 1:
        raise PresetError("--limit needs a number from 1 up.")
    if options.table:
        return _run_table(options)
    if options.dataset is None or options.root is None:
        raise PresetError("Name a data set and where its files are: evaluate DATASET --root DIR.")
    with _results(options) as parent:
        results, figures = _plan(options, options.dataset, options.split, overrides(options)).measure(parent)
        if options.report:
            from model.benchmarks.report import write

            write(results, options.report, options.protocol)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(told(figures))
    return 0


def told(figures: Mapping[str, Any]) -> str:
    """Write figures as text for people: what is true of parts, and a last line for all."""
    from model.benchmarks.metrics import shown

    end = f"{figures['images']} images in {figures['seconds']:.1f} s"
    if "j_and_f" in figures:
        lines = [
            f"{name:24} J {shown(video['j'])}, F {shown(video['f'])}" for name, video in figures["per_video"].items()
        ]
        main = f"J&F {shown(figures['j_and_f'])}, J {shown(figures['j'])}, F {shown(figures['f'])}"
        return "\n".join([*lines, f"{main}; {figures['objects']} descriptions; {end}"])
    if "oiou" in figures:
        shares = ", ".join(f"{shown(share)} above {least}" for least, share in figures["precision_at"].items())
        main = f"mIoU {shown(figures['miou'])}, oIoU {shown(figures['oiou'])}; {figures['objects']} objects: {shares}"
        return f"{main}; {end}"
    lines = [f"{label:24} {iou:.3f}" for label, iou in figures["per_class"].items()]
    main = (
        f"mIoU {shown(figures['miou'])}, with background {shown(figures['miou_with_background'])}; labels: precision "
        f"{shown(figures['precision'])}, recall {shown(figures['recall'])}; calibration error "
        f"{shown(figures['calibration_error'])}"
    )
    return "\n".join([*lines, f"{main}; {end}"])


def _run_table(options: argparse.Namespace) -> int:
    """Print a table; before that measure its rows, or instead list the commands that do."""
    from model.benchmarks.tables import Measured, markdown, table

    shown = table(options.table)
    base = overrides(options)
    if options.preset or options.json or options.report:
        raise PresetError("A table's rows have presets and figures of their own: leave out --preset, --json, --report.")
    if options.dataset not in (None, "folder"):
        raise PresetError("A table's rows name their data sets; only `folder` can stand for them, to try the settings.")
    if options.commands:
        print("\n".join(_commands(options, shown.measurable, base)))
        return 0
    with _results(options) as parent:
        failed = _measure_rows(options, shown.measurable, base, parent) if options.run_rows else 0
        runs = []
        if any(parent.glob("*/settings.json")):
            from model.benchmarks.results import runs as kept

            runs = [Measured.of(run, options.protocol) for run in kept(parent)]
        print(markdown(shown, runs, base))
    return 1 if failed else 0


def _measure_rows(options: argparse.Namespace, cells: "tuple[Cell, ...]", base: Mapping[str, str], parent: Path) -> int:
    """Measure each row once, on its own data set or on the folder that is named; return how many could not be."""
    from model.benchmarks.dataset import DatasetError

    if options.root is None:
        raise PresetError("--run needs --root DIR with the data sets, or `folder --root DIR` to try the rows on it.")
    failed, done = 0, set()
    for cell in cells:
        dataset, split = ("folder", None) if options.dataset else (cell.dataset, cell.split)
        try:
            preset = cell.preset(base)
            if (dataset, split, preset.checksum) not in done:
                done.add((dataset, split, preset.checksum))
                print(f"{cell.row} ({cell.column})", file=sys.stderr)
                _plan(options, dataset, split, {}, preset).measure(parent)
        except (DatasetError, PresetError) as error:
            print(f"evaluate: {cell.row} ({cell.column}) was not measured: {error}", file=sys.stderr)
            failed += 1
    return failed


def _commands(options: argparse.Namespace, cells: "tuple[Cell, ...]", base: Mapping[str, str]) -> list[str]:
    given = {"--root": options.root or "DIR", "--results": options.results or "RESULTS", "--weights": options.weights}
    extra = [part for flag, value in given.items() if value for part in (flag, str(value))]
    return list(dict.fromkeys(cell.command(base, extra, folder=options.dataset is not None) for cell in cells))


def _plan(
    options: argparse.Namespace, dataset: str, split: str | None, changes: Mapping[str, str], preset: Any = None
) -> "Plan":
    from model.benchmarks.class_lists import class_list
    from model.benchmarks.plans import Plan, settings_for

    return Plan(
        dataset=dataset,
        root=options.root,
        preset=preset or settings_for(dataset, options.preset, changes),
        split=split,
        weights=options.weights,
        device=options.device,
        queries=class_list(options.classes) if options.classes else (),
        limit=options.limit,
        protocol=options.protocol,
        workers=options.workers,
    )


@contextmanager
def _results(options: argparse.Namespace) -> Iterator[Path]:
    """Give the folder of results: the one that is named, or one that is gone afterwards."""
    if options.results:
        options.results.mkdir(parents=True, exist_ok=True)
        yield options.results
    else:
        with TemporaryDirectory() as folder:
            yield Path(folder)
