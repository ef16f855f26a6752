"""`python -m model benchmark`: time one image, stage by stage."""

import argparse
import json

from model.commands.common import Commands, add_settings, load
from model.presets import PresetError


def add(commands: Commands) -> None:
    """Describe the command and its flags."""
    benchmark = commands.add_parser("benchmark", help="time one image, stage by stage, beside the least it could take")
    benchmark.add_argument("--labels", type=int, default=20, metavar="N", help="how many labels (default: 20)")
    benchmark.add_argument("--size", default="500x375", metavar="WxH", help="the picture's size (default: 500x375)")
    benchmark.add_argument("--threads", type=int, metavar="N", help="processor threads (default: as torch chooses)")
    benchmark.add_argument("--random-weights", action="store_true", help="seeded random weights: nothing is downloaded")
    benchmark.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    add_settings(benchmark)
    benchmark.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Time one image; print a table, or JSON."""
    from model.benchmark import as_json, measure, table

    width, _, height = options.size.partition("x")
    counts = [width, height, options.labels, options.threads or 1]
    if not all(str(count).isascii() and str(count).isdigit() and int(count) > 0 for count in counts):
        raise PresetError("--size takes WIDTHxHEIGHT, such as 500x375; --labels and --threads take a number from 1 up.")
    options.weights = "random" if options.random_weights else options.weights
    figures = measure(load(options), options.labels, (int(width), int(height)), options.threads)
    print(json.dumps(as_json(figures)) if options.json else table(figures))
    return 0
