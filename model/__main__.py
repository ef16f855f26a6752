"""`python -m model segment | evaluate | benchmark | presets`: the method on the command line, without any service."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from model.presets import ORIGINS, PRESETS, PresetError, preset, settings
from model.vocabulary import Query, check, plain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.segmenter import Segmentation, Segmenter


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 2 with a message on stderr when the input is wrong."""
    options = parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except (ValueError, OSError, RuntimeError) as error:
        if not _meant_for_users(error):
            raise
        print(f"{options.command}: {error}", file=sys.stderr)
        return 2
    return code


def parser() -> argparse.ArgumentParser:
    """Describe the commands and their flags."""
    root = argparse.ArgumentParser(prog="python -m model", description=__doc__)
    commands = root.add_subparsers(dest="command", required=True)

    segment = commands.add_parser("segment", help="find labels in images; write index masks, overlays and JSON")
    segment.add_argument("images", nargs="*", type=Path, metavar="IMAGE")
    segment.add_argument("--video", type=Path, metavar="PATH", help="a video file or a folder of frames, for IMAGE")
    segment.add_argument("--every", type=_count, default=1, metavar="N", help="each N-th frame of the video only")
    segment.add_argument(
        "--smooth", type=partial(_count, least=0), default=0, metavar="N", help="let N frames before and after vote"
    )
    labels = segment.add_mutually_exclusive_group(required=True)
    labels.add_argument("--labels", help='what to look for, commas between: "a cat,a dog"')
    labels.add_argument(
        "--labels-file",
        type=Path,
        metavar="FILE",
        help="the same, one label per line; tabs before texts to say instead",
    )
    labels.add_argument("--classes", metavar="NAME", help="the labels of a benchmark: voc, coco-object, context, ade")
    labels.add_argument(
        "--refer",
        action="append",
        nargs="+",
        metavar="SENTENCE",
        help="an object by one sentence, or by several; once for each object, which has a mask of its own",
    )
    segment.add_argument("--stuff", default="", metavar="LABELS", help="which labels are stuff (see `mutual`)")
    segment.add_argument("--threshold", type=float, metavar="SCORE", help="least score of a region that is written")
    segment.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="where to write (default: out)")
    segment.add_argument("--json", action="store_true", help="also print one line of JSON for each image")
    segment.set_defaults(run=run_segment)

    evaluate = commands.add_parser("evaluate", help="compare with ground truth")
    evaluate.add_argument("dataset", choices=["folder"])
    evaluate.add_argument("--root", type=Path, required=True, metavar="DIR")
    evaluate.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    evaluate.add_argument("--protocol", choices=["default", "car"], default="default", help="car: the released rule")
    evaluate.add_argument("--classes", metavar="NAME", help="search labels by the texts of a benchmark: voc, ade, ...")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    evaluate.set_defaults(run=run_evaluate)

    benchmark = commands.add_parser("benchmark", help="time one image, stage by stage, beside the least it could take")
    benchmark.add_argument("--labels", type=int, default=20, metavar="N", help="how many labels (default: 20)")
    benchmark.add_argument("--size", default="500x375", metavar="WxH", help="the picture's size (default: 500x375)")
    benchmark.add_argument("--threads", type=int, metavar="N", help="processor threads (default: as torch chooses)")
    benchmark.add_argument("--random-weights", action="store_true", help="seeded random weights: nothing is downloaded")
    benchmark.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    benchmark.set_defaults(run=run_benchmark)

    for command in (segment, evaluate, benchmark):
        command.add_argument("--preset", default="demo", metavar="NAME", help="which settings (default: demo)")
        command.add_argument("--weights", metavar="demo|random|DIR", help="instead of the preset's own")
        command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another setting's value")
        command.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")

    presets = commands.add_parser("presets", help="list the presets, or the settings of one")
    presets.add_argument("name", nargs="?", metavar="NAME")
    presets.set_defaults(run=run_presets)
    return root


def run_segment(options: argparse.Namespace) -> int:
    """Segment each image or frame; an unreadable image is told and skipped, the exit code is then 1."""
    from model.pictures import PictureError, read_image

    if bool(options.images) == bool(options.video):
        raise PresetError("Give images, or --video with a file or a folder of frames.")
    queries = _queries(options)
    if options.video:
        return _segment_video(options, queries)
    _check_outputs(options.images, options.out)
    find = _finder(options, queries)
    options.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for path in options.images:
        try:
            image = read_image(path)
        except PictureError as error:
            print(f"segment: {error}", file=sys.stderr)
            failed += 1
            continue
        _tell(options, str(path), options.out, path.stem, image, find(image), queries)
    return 1 if failed else 0


def _segment_video(options: argparse.Namespace, queries: Sequence[Query]) -> int:
    """Segment the frames of a video into OUT/NAME."""
    from collections import deque

    from model.video import Frame, frames, smooth

    folder = options.out / options.video.stem
    if folder.resolve() == options.video.resolve():
        raise PresetError(f"{folder} is the folder of frames and would be written to: choose another --out.")
    find = _finder(options, queries)
    waiting: deque[Frame] = deque()

    def results() -> "Iterator[Segmentation]":
        for frame in frames(options.video, options.every):
            waiting.append(frame)
            yield find(frame.image)

    for result in smooth(results(), options.smooth):
        folder.mkdir(parents=True, exist_ok=True)
        frame = waiting.popleft()
        _tell(options, f"{options.video} {frame.name}", folder, frame.name, frame.image, result, queries)
    return 0


def _queries(options: argparse.Namespace) -> list[Query]:
    """Read what to look for: labels, a benchmark's classes, or objects with their sentences."""
    from model.benchmarks.class_lists import class_list

    if options.classes:
        queries = list(class_list(options.classes))
    elif options.refer:
        queries = [Query(sentences[0], tuple(map(plain, sentences))) for sentences in options.refer]
    else:
        text = options.labels_file.read_text(encoding="utf-8") if options.labels_file else options.labels
        lines = text.splitlines() if options.labels_file else text.split(",")
        parts = [line.split("\t") if options.labels_file else [line] for line in lines if line.strip()]
        queries = [Query(label.strip(), tuple(prompts) or (label.strip(),)) for label, *prompts in parts]
    stuff = {label.strip() for label in options.stuff.split(",") if label.strip()}
    unknown = sorted(stuff - {query.label for query in queries})
    if unknown:
        raise PresetError(f"--stuff names {unknown[0]!r}, which is no label.")
    check(queries)
    return [replace(query, stuff=query.stuff or query.label in stuff) for query in queries]


def _finder(options: argparse.Namespace, queries: Sequence[Query]) -> "Callable[[NDArray[np.uint8]], Segmentation]":
    """Load the weights; return what finds the queries in an image, as labels or as referring expressions."""
    from model.referring import refer

    segmenter = _segmenter(options)
    if options.refer:
        return lambda image: refer(segmenter, image, queries, options.threshold)
    return lambda image: segmenter.segment(image, queries, options.threshold)


def _tell(
    options: argparse.Namespace,
    name: str,
    folder: Path,
    stem: str,
    image: "NDArray[np.uint8]",
    result: "Segmentation",
    queries: Sequence[Query],
) -> None:
    """Write one result and print a line about it."""
    from model.pictures import report, write

    write(result, image, [query.label for query in queries], folder, stem)
    if options.json:
        print(json.dumps({"image": name, **report(result)}, ensure_ascii=False))
    else:
        found = ", ".join(f"{label} {score:.2f}" for label, score in zip(result.labels, result.scores, strict=True))
        print(f"{name}: {found or 'nothing found'} ({result.seconds['total']:.1f} s)")


def run_evaluate(options: argparse.Namespace) -> int:
    """Evaluate a data set and print the figures."""
    from model.benchmarks import folder
    from model.benchmarks.class_lists import class_list

    if options.limit is not None and options.limit < 1:
        raise PresetError("--limit needs a number from 1 up.")
    queries = class_list(options.classes) if options.classes else ()
    figures = folder.evaluate(_segmenter(options), options.root, options.limit, options.protocol, queries)
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


def run_benchmark(options: argparse.Namespace) -> int:
    """Time one image; print a table, or JSON."""
    from model.benchmark import as_json, measure, table

    width, _, height = options.size.partition("x")
    counts = [width, height, options.labels, options.threads or 1]
    if not all(str(count).isascii() and str(count).isdigit() and int(count) > 0 for count in counts):
        raise PresetError("--size takes WIDTHxHEIGHT, such as 500x375; --labels and --threads take a number from 1 up.")
    options.weights = "random" if options.random_weights else options.weights
    figures = measure(_segmenter(options), options.labels, (int(width), int(height)), options.threads)
    print(json.dumps(as_json(figures)) if options.json else table(figures))
    return 0


def run_presets(options: argparse.Namespace) -> int:
    """List the presets, or every setting of one: its value and what it means."""
    if options.name is None:
        for name, values in PRESETS.items():
            print(f"{name:18} {values.checksum}  eta {values.eta}, theta {values.theta}, lambda {values.lambda_}")
        return 0
    chosen, origin = preset(options.name), ORIGINS[options.name]
    print(f"# {origin.source}")
    for name, setting in settings().items():
        value = getattr(chosen, setting.name)
        print(f"{name} = {','.join(value) if isinstance(value, tuple) else value}\n    {setting.metadata['doc']}")
        if name in origin.notes:
            print(f"    ({origin.notes[name]})")
    return 0


def _segmenter(options: argparse.Namespace) -> "Segmenter":
    """Load the weights. Torch is imported here, so that what needs none is quick."""
    from model.segmenter import Segmenter

    pairs = [item.partition("=") for item in options.set]
    if not all(sign for _, sign, _ in pairs):
        raise PresetError("--set takes NAME=VALUE.")
    return Segmenter(preset(options.preset, {name: value for name, _, value in pairs}), options.device, options.weights)


def _count(text: str, least: int = 1) -> int:
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise argparse.ArgumentTypeError(f"needs a number from {least} up, not {text!r}")
    return int(text)


def _check_outputs(images: Sequence[Path], out: Path) -> None:
    """Refuse to write two results to one name, or over an image that is read."""
    inputs = {path.resolve() for path in images}
    names: set[Path] = set()
    for path in images:
        target = (out / f"{path.stem}.png").resolve()
        if target in names:
            raise PresetError(f"Two images are called {path.stem}: their results would overwrite each other.")
        if target in inputs:
            raise PresetError(f"{target} is an image to read and would be overwritten: choose another --out.")
        names.add(target)


def _meant_for_users(error: Exception) -> bool:
    """Whether an error is one of ours, whose message says what to do, or a file that cannot be opened."""
    return type(error).__module__.startswith("model.") or isinstance(error, OSError)


if __name__ == "__main__":
    sys.exit(main())
