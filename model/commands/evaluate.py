"""`python -m model evaluate`: compare masks with a data set's ground truth."""

import argparse
import json
from pathlib import Path

from model.commands.common import Commands, add_settings, load
from model.presets import PresetError


def add(commands: Commands) -> None:
    """Describe the command and its flags."""
    evaluate = commands.add_parser("evaluate", help="compare with ground truth")
    evaluate.add_argument("dataset", choices=["folder"])
    evaluate.add_argument("--root", type=Path, required=True, metavar="DIR")
    evaluate.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    evaluate.add_argument("--protocol", choices=["default", "car"], default="default", help="car: the released rule")
    evaluate.add_argument("--classes", metavar="NAME", help="search labels by the texts of a benchmark: voc, ade, ...")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    add_settings(evaluate)
    evaluate.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Evaluate a data set and print the figures."""
    from model.benchmarks import folder
    from model.benchmarks.class_lists import class_list

    if options.limit is not None and options.limit < 1:
        raise PresetError("--limit needs a number from 1 up.")
    queries = class_list(options.classes) if options.classes else ()
    figures = folder.evaluate(load(options), options.root, options.limit, options.protocol, queries)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for label, iou in figures["per_class"].items():
        print(f"{label:24} {iou:.3f}")
    print(
        f"mIoU {figures['miou']:.3f}, with background {figures['miou_with_background']:.3f}; labels: precision "
        f"{figures['precision']:.3f}, recall {figures['recall']:.3f}; calibration error "
        f"{figures['calibration_error']:.3f}; "
        f"{figures['images']} images in {figures['seconds']:.1f} s"
    )
    return 0
