"""`python -m model benchmark`: time one image, stage by stage, or a stream of images."""

import argparse
import json
from dataclasses import asdict
from functools import partial

from model.commands.common import Commands, add_settings, chosen, count, load
from model.presets import PresetError


def add(commands: Commands) -> None:
    """Describe the command and its flags."""
    benchmark = commands.add_parser("benchmark", help="time one image, stage by stage, beside the least it could take")
    benchmark.add_argument("--labels", type=int, default=20, metavar="N", help="how many labels (default: 20)")
    benchmark.add_argument("--size", default="500x375", metavar="WxH", help="the picture's size (default: 500x375)")
    benchmark.add_argument("--threads", type=int, metavar="N", help="processor threads (default: as torch chooses)")
    benchmark.add_argument("--stream", type=count, metavar="N", help="stream N images instead: images per second")
    benchmark.add_argument("--processes", type=count, default=1, metavar="N", help="that many streams share the device")
    benchmark.add_argument("--drawers", type=partial(count, least=0), metavar="N", help="processes that draw masks")
    benchmark.add_argument("--random-weights", action="store_true", help="seeded random weights: nothing is downloaded")
    benchmark.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    add_settings(benchmark)
    benchmark.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Time one image, or a stream of them; print a table, or JSON."""
    width, _, height = options.size.partition("x")
    counts = [width, height, options.labels, options.threads or 1]
    if not all(str(count).isascii() and str(count).isdigit() and int(count) > 0 for count in counts):
        raise PresetError("--size takes WIDTHxHEIGHT, such as 500x375; --labels and --threads take a number from 1 up.")
    if not options.stream and (options.processes > 1 or options.drawers is not None):
        raise PresetError("--processes and --drawers need --stream, which takes a number of images.")
    options.weights = "random" if options.random_weights else options.weights
    size = (int(width), int(height))
    print(_stream(options, size) if options.stream else _image(options, size))
    return 0


def _image(options: argparse.Namespace, size: tuple[int, int]) -> str:
    from model.benchmark import as_json, measure, table

    figures = measure(load(options), options.labels, size, options.threads)
    return json.dumps(as_json(figures)) if options.json else table(figures)


def _stream(options: argparse.Namespace, size: tuple[int, int]) -> str:
    from model.throughput import Job, measure, table

    job = Job(
        preset=chosen(options),
        device=options.device,
        weights=options.weights,
        labels=options.labels,
        size=size,
        images=options.stream,
        drawers=options.drawers,
        threads=options.threads,
    )
    figures = measure(job, options.processes)
    return json.dumps(asdict(figures)) if options.json else table(figures)
