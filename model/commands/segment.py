"""`python -m model segment`: find labels in images or in the frames of a video."""

import argparse
import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from model.commands.common import Commands, add_settings, count, load, meant_for_users
from model.presets import PresetError
from model.vocabulary import Query, check, plain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.segmentation import Segmentation


def add(commands: Commands) -> None:
    """Describe the command and its flags."""
    segment = commands.add_parser("segment", help="find labels in images; write index masks, overlays and JSON")
    segment.add_argument("images", nargs="*", type=Path, metavar="IMAGE")
    segment.add_argument("--video", type=Path, metavar="PATH", help="a video file or a folder of frames, for IMAGE")
    segment.add_argument("--every", type=count, default=1, metavar="N", help="each N-th frame of the video only")
    segment.add_argument(
        "--smooth", type=partial(count, least=0), default=0, metavar="N", help="let N frames before and after vote"
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
    add_settings(segment)
    segment.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Segment images or frames; an image that cannot be read or segmented is told and skipped, the code is then 1."""
    if bool(options.images) == bool(options.video):
        raise PresetError("Give images, or --video with a file or a folder of frames.")
    queries = _queries(options)
    return (_segment_video if options.video else _segment_images)(options, queries)


def _segment_images(options: argparse.Namespace, queries: Sequence[Query]) -> int:
    """Segment the images, whose masks are drawn while the next ones are read and looked at."""
    from model.pictures import PictureError, read_image

    _check_outputs(options.images, options.out)
    segmented = _segmented(options, queries, alone=len(options.images) == 1)
    options.out.mkdir(parents=True, exist_ok=True)
    waiting: deque[tuple[Path, NDArray[np.uint8]]] = deque()
    failures: list[Exception] = []

    def failed(error: Exception) -> None:
        if not meant_for_users(error):
            raise error
        print(f"segment: {error}", file=sys.stderr)
        failures.append(error)

    def images() -> "Iterator[NDArray[np.uint8]]":
        for path in options.images:
            try:
                image = read_image(path)
            except PictureError as error:
                failed(error)
            else:
                waiting.append((path, image))
                yield image

    for result in segmented(images()):
        path, image = waiting.popleft()
        if isinstance(result, Exception):
            failed(result)
        else:
            _tell(options, str(path), options.out, path.stem, image, result, queries)
    return 1 if failures else 0


def _segment_video(options: argparse.Namespace, queries: Sequence[Query]) -> int:
    """Segment the frames of a video into OUT/NAME."""
    from model.video import Frame, frames, smooth

    folder = options.out / options.video.stem
    if folder.resolve() == options.video.resolve():
        raise PresetError(f"{folder} is the folder of frames and would be written to: choose another --out.")
    segmented = _segmented(options, queries)
    waiting: deque[Frame] = deque()

    def images() -> "Iterator[NDArray[np.uint8]]":
        for frame in frames(options.video, options.every):
            waiting.append(frame)
            yield frame.image

    def results() -> "Iterator[Segmentation]":
        for result in segmented(images()):
            if isinstance(result, Exception):
                raise result
            yield result

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


def _segmented(
    options: argparse.Namespace, queries: Sequence[Query], alone: bool = False
) -> "Callable[[Iterable[NDArray[np.uint8]]], Iterator[Segmentation | Exception]]":
    """Load the weights; return what finds the queries in images, as labels or as referring expressions."""
    from model.referring import look
    from model.segmenter import Segmenter
    from model.stream import stream

    segmenter = load(options)
    find = partial(look if options.refer else Segmenter.look, segmenter)
    drawers = 0 if alone else segmenter.drawers
    return lambda images: stream(images, lambda image: find(image, queries, options.threshold), drawers)


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
