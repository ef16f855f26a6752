"""The demo world on the command line: `python -m model.demo sprites | draw | tokenizer | train | report`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from model.commands.common import count, run, share

HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 2 with a message on stderr when the input is wrong."""
    return run(parser().parse_args(arguments))


def parser() -> argparse.ArgumentParser:
    """Describe the commands and their flags."""
    root = argparse.ArgumentParser(prog="python -m model.demo", description=__doc__)
    commands = root.add_subparsers(dest="command", required=True)

    draw = commands.add_parser("draw", help="draw a set of scenes, as a folder that `evaluate folder` reads")
    draw.add_argument("set", choices=("test", "test2", "tune", "project", "expressions"))
    draw.add_argument("--count", type=count, default=40, metavar="N", help="how many scenes (default: 40)")
    draw.add_argument("--out", type=Path, required=True, metavar="DIR")
    draw.set_defaults(run=_draw)

    train = commands.add_parser("train", help="train the weights; run again, it goes on where it was stopped")
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="the run's folder")
    train.add_argument("--init", type=Path, metavar="DIR", help="go on from the weights of a folder, with whole images")
    train.add_argument("--steps", type=count, metavar="N", help="default: 12000, or 1500 with --init")
    for name in ("muon", "adam"):
        train.add_argument(f"--{name}", type=float, metavar="RATE", help="another learning rate than the recipe's")
    train.add_argument("--circled", type=share, metavar="SHARE", help="of the images, 0 to 1, for circles alone")
    train.add_argument("--seed", type=int, default=0, metavar="N")
    train.add_argument("--device", metavar="NAME", help="cpu, cuda, ... (default: cuda if there is one)")
    train.add_argument(
        "--workers", type=int, metavar="N", help="processes that draw beside a GPU (default: 4, and 0 without a GPU)"
    )
    train.add_argument("--threads", type=count, metavar="N", help="of the CPU (default: torch's choice)")
    train.add_argument("--parts", type=count, default=1, metavar="N", help="processes that share each batch (CPU only)")
    train.add_argument("--compile", action="store_true", help="faster steps after some minutes at the start")
    train.set_defaults(run=_train)

    report = commands.add_parser("report", help="measure weights on sets of scenes: one table, with intervals")
    report.add_argument("sets", nargs="*", default=["val", "test", "test2"], metavar="SET|DIR")
    report.add_argument("--weights", default="demo", metavar="demo|DIR")
    report.add_argument("--preset", default="demo", metavar="NAME")
    report.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another setting's value")
    report.add_argument("--device", metavar="NAME")
    report.add_argument("--expressions", type=count, metavar="N", help="also referring expressions, on N drawn scenes")
    report.add_argument("--limit", type=count, metavar="N", help="only the first scenes of each set")
    report.set_defaults(run=_report)

    words = commands.add_parser("tokenizer", help="learn the byte pairs anew, for weights trained from scratch")
    words.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file, as .txt.gz")
    words.set_defaults(run=_tokenizer)

    sprites = commands.add_parser("sprites", help="build the atlases from their sources (needs resvg-py)")
    for name, what in (
        ("noto", "NotoColorEmoji.ttf, of Debian's fonts-noto-color-emoji"),
        ("twemoji", "the unpacked npm package @twemoji/svg"),
        ("fluent", "the unpacked npm package @iconify-json/fluent-emoji-flat"),
        ("icons", "the unpacked npm package simple-icons"),
    ):
        sprites.add_argument(f"--{name}", type=Path, required=True, metavar="PATH", help=what)
    sprites.add_argument("--out", type=Path, default=HERE, metavar="DIR", help="default: model/demo")
    sprites.set_defaults(run=_sprites)
    return root


def _draw(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from model.demo.sets import write

    drawn = list(tqdm(write(options.set, options.out, options.count), total=options.count))
    print(f"{options.out}: {len(drawn)} scenes")
    return 0


def _train(options: argparse.Namespace) -> int:
    from functools import partial

    import torch

    from model.demo import together
    from model.demo.recipe import CONTINUED, Recipe
    from model.demo.train import RunError, train

    if options.parts > 1 and options.device not in (None, "cpu"):
        raise RunError(f"--parts shares batches among processes on a CPU: leave it out, or --device {options.device}")
    threads = options.threads or (1 if options.parts > 1 else 0)
    recipe = Recipe(seed=options.seed, parts=options.parts)
    if options.init:
        recipe = replace(recipe, stages=CONTINUED, steps=1500, muon=0.005, adam=4e-4, falling=1.0)  # gently
    chosen = {name: getattr(options, name) for name in ("steps", "muon", "adam", "circled")}
    recipe = replace(recipe, **{name: value for name, value in chosen.items() if value})
    device = options.device or ("cuda" if options.parts == 1 and torch.cuda.is_available() else "cpu")
    workers = options.workers if options.workers is not None else 0 if device == "cpu" else 4
    work = partial(train, recipe, options.out, device, options.init, options.compile, threads, workers)
    if options.parts > 1:
        together.run(work, options.parts)
    else:
        work(0)
    return 0


def _report(options: argparse.Namespace) -> int:
    from model.commands.common import overrides
    from model.demo.report import report, table
    from model.presets import preset
    from model.segmenter import Segmenter

    segmenter = Segmenter(preset(options.preset, overrides(options)), options.device, options.weights)
    columns = {}
    for name in options.sets:
        own = HERE / "scenes" / name
        columns[name] = report(own if own.is_dir() else Path(name), segmenter, options.limit)
    print(table(columns))
    if options.expressions:
        from model.demo.expressions import understood

        print()
        print(table({"referring expressions": understood(segmenter, options.expressions)}))
    return 0


def _tokenizer(options: argparse.Namespace) -> int:
    from model.demo import tokenizer

    merges = tokenizer.learn(tokenizer.counts())
    tokenizer.write(merges, options.out)
    print(f"{options.out}: {len(merges)} merges")
    return 0


def _sprites(options: argparse.Namespace) -> int:
    from model.demo import packing

    sources = packing.Sources(options.noto, options.twemoji, options.fluent, options.icons)
    for name, drawings in (("atlas", packing.training(sources)), ("atlas-test", packing.testing(sources))):
        written = packing.write(drawings, options.out / f"{name}.webp")
        print(f"{options.out / name}.webp: {written} drawings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
