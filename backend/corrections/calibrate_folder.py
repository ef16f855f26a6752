"""`corrections --folder DIR --calibrate`: calibration judged on images whose masks are known, project or not.

The masks stand for corrections by annotators who overlook nothing. Shows what to expect of a calibration before anybody
has corrected anything, and how much it depends on which tasks happened to be corrected.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from backend.corrections.calibration import propose, shown
from backend.corrections.proposals import Proposal
from backend.corrections.trials import Example, Setting, Trials
from backend.settings import Settings
from model.presets import preset
from model.segmenter import Segmenter
from model.vocabulary import vocabulary

IGNORED = 255


def calibrate_folder(args: argparse.Namespace, settings: Settings) -> int:
    """Calibrate with one or several splits of the folder's images, and print what came out."""
    try:
        labels, examples = read_folder(args.folder)
    except (OSError, ValueError) as error:
        print(f"{args.folder} cannot be read: {error}", file=sys.stderr)
        return 1
    chosen = preset(settings.car_preset)
    segmenter = Segmenter(chosen, settings.car_device or None, settings.car_weights or None)
    start = Setting(chosen.eta, chosen.lambda_, ())
    seeds = range(args.seed, args.seed + (args.seeds or 1))
    with tqdm(desc="segmented", unit=" images", file=sys.stderr) as bar:
        trials = Trials(segmenter, vocabulary(labels), examples, bar.update)
        samples = [] if args.settings else trials.samples(start, [example.task for example in examples])
        share = None if args.miss_at_most is None else args.miss_at_most / 100
        found = {
            seed: trials.propose(start, seed) if args.settings else propose(samples, {}, seed, share) for seed in seeds
        }
    if args.json:
        print(json.dumps({str(seed): asdict(proposal) for seed, proposal in found.items()}, indent=1))
    else:
        print(as_text(found, len(examples), len(labels)))
    return 0


def read_folder(root: Path) -> tuple[tuple[str, ...], list[Example]]:
    """The labels and images of a folder as `python -m model evaluate folder` reads it.

    The labels are those that `queries/` asks for anywhere, else all classes: one vocabulary, as a project has.

    Raises:
        OSError: a file is missing.
        ValueError: there is no image.
    """
    classes = [line for line in (root / "classes.txt").read_text(encoding="utf-8").splitlines() if line]
    asked = [line for path in sorted((root / "queries").glob("*.txt")) for line in path.read_text().splitlines()]
    labels = tuple(dict.fromkeys(line for line in asked if line)) or tuple(classes)
    images = sorted(path for path in (root / "images").iterdir() if path.suffix in (".png", ".jpg"))
    if not images:
        raise ValueError("images/ is empty")
    numbers = {1 + classes.index(label): label for label in labels}
    return labels, [
        Example(number, _image(path), _masks(root / "masks" / f"{path.stem}.png", numbers))
        for number, path in enumerate(images, 1)
    ]


def _image(path: Path) -> Callable[[], NDArray[np.uint8]]:
    return lambda: np.asarray(Image.open(path).convert("RGB"))


def _masks(path: Path, labels: Mapping[int, str]) -> Callable[[], Mapping[str, NDArray[np.bool_]]]:
    def read() -> Mapping[str, NDArray[np.bool_]]:
        index = np.asarray(Image.open(path))
        there = (int(number) for number in np.unique(index) if number != IGNORED)
        return {labels[number]: index == number for number in there if number in labels}

    return read


def as_text(found: Mapping[int, Proposal], images: int, labels: int) -> str:
    """A table: one line for each split, and the mean with its spread."""
    lines = [f"{images} images, {labels} labels; half of the images choose, the other half judges.", ""]
    lines.append("seed   mIoU before   after     gain   missed before   after   eta    lambda  verdict")
    judged = [(seed, one, one.held_out) for seed, one in found.items() if one.held_out is not None]
    for seed, one, held in judged:
        method = "".join(f"{'' if value is None else f'{value:g}':<7}" for value in (one.eta, one.lambda_))
        verdict = "accepted" if one.accepted else "no change"
        gain = "none" if held.gain is None else f"{held.gain:+.3f}"
        lines.append(
            f"{seed:>4}   {shown(held.before):>11}   {shown(held.after):>5}   {gain:>6}   "
            f"{shown(held.missed_before):>13}   {shown(held.missed):>5}   {method} {verdict}"
        )
    lines += [f"{seed:>4}   {one.reason}" for seed, one in found.items() if one.held_out is None]
    gains = [held.gain for _, _, held in judged if held.gain is not None]
    if len(gains) > 1:
        lines.append(f"gain of {len(gains)} splits: {fmean(gains):+.3f}, standard deviation {stdev(gains):.3f}")
    return "\n".join(lines)
