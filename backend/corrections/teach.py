"""`corrections --memory`: a memory of corrected regions, of a project or a folder; and what tasks taught, forgotten."""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from backend.corrections.calibrate_folder import as_text, read_folder
from backend.corrections.calibrate_project import drawing, newest, served
from backend.corrections.corrector import Corrector
from backend.corrections.proposals import Kept, Proposal, ProposalError, keep
from backend.corrections.remembering import Masks, Remembering
from backend.corrections.trials import Example
from backend.settings import Settings
from model.memory import SUFFIX, read, write
from model.presets import preset
from model.segmenter import Segmenter
from model.vocabulary import vocabulary


def teach_project(corrector: Corrector, settings: Settings, project: int, memory: str, seed: int) -> Kept | None:
    """Make a memory of a project's newest corrected tasks, and propose it if it helps; None if it is not served.

    Raises:
        StudioError, ConfigError: Label Studio does not answer, or the config cannot be served.
        ProposalError: the file would not be where labeling configs look for it.
    """
    path = path_of(memory, settings)
    named(path, settings, "")
    config = served(corrector, settings, project)
    if config is None:
        return None
    (asked,) = config.images
    chosen = replace(config.model_preset(asked), memory="")  # judged beside none: one of now knows the held-out tasks
    segmenter = Segmenter(chosen, settings.car_device or None, settings.car_weights or None)
    with tqdm(desc="segmented", unit=" images", file=sys.stderr) as bar:
        examples = newest(corrector, settings, project, config)
        taught = Remembering(
            segmenter, asked.queries(), examples, config.thresholds(), bar.update, drawn=drawing(asked)
        )
        proposal, found = taught.propose(seed)
    if found is not None:
        proposal = replace(proposal, memory=named(path, settings, write(found, path)))
    return keep(corrector.redis, project, config.version(settings.car_weights), proposal, asked=True)


def teach_folder(args: argparse.Namespace, settings: Settings) -> int:
    """Make memories of one or several halves of a folder's images, and print what they are worth on the other half.

    The file is written if each of them is. `--rename` and `--wrong` are experiments: words that CLIP does not know, and
    annotators who err.
    """
    try:
        labels, examples = read_folder(args.folder)
        renamed = dict(pair.split("=", 1) for pair in args.rename)
    except (OSError, ValueError) as error:
        print(f"{args.folder} cannot be read, or --rename is not OLD=NEW: {error}", file=sys.stderr)
        return 1
    labels = tuple(renamed.get(label, label) for label in labels)
    examples = [replace(one, masks=_renaming(one, renamed)) for one in examples]
    chosen = preset(settings.car_preset)
    segmenter = Segmenter(chosen, settings.car_device or None, settings.car_weights or None)
    seeds = range(args.seed, args.seed + (args.seeds or 1))
    with tqdm(desc="segmented", unit=" images", file=sys.stderr) as bar:

        def submitted(example: Example) -> Masks:
            return mistaken(example, labels, args.wrong / 100)

        taught = Remembering(segmenter, vocabulary(labels), examples, None, bar.update, submitted)
        found = {seed: taught.propose(seed) for seed in seeds}
    proposals = {seed: proposal for seed, (proposal, _) in found.items()}
    memory = found[seeds[-1]][1]
    if args.json:
        print(json.dumps({str(seed): asdict(proposal) for seed, proposal in proposals.items()}, indent=1))
    else:
        print(as_text(proposals, len(examples), len(labels)))
    if memory is not None and all(proposal.accepted for proposal in proposals.values()):
        path = path_of(args.memory, settings)
        print(f"Written: {path}#{write(memory, path)}", file=sys.stderr)
    return 0


def forget(corrector: Corrector, settings: Settings, project: int, memory: str, tasks: list[int]) -> Kept | None:
    """Take tasks out of a memory, and propose what is left: a person's wish needs no proof.

    Raises:
        MemoryFileError: the memory cannot be read.
        StudioError, ConfigError: Label Studio does not answer, or the config cannot be served.
        ProposalError: it has nothing of these tasks.
    """
    path = path_of(memory, settings)
    before = read(str(path))
    after = before.forget(*tasks)
    gone = len(before.labels) - len(after.labels)
    if not gone:
        raise ProposalError(f"{path} has nothing of task {', '.join(map(str, tasks))}; it is as it was.")
    config = served(corrector, settings, project)
    if config is None:
        return None
    setting = named(path, settings, write(after, path))
    reason = f"{gone} regions of task {', '.join(map(str, tasks))} are forgotten, {len(after.labels)} are left."
    version = config.version(settings.car_weights)
    return keep(corrector.redis, project, version, Proposal(True, reason, {}, memory=setting), asked=True)


def path_of(memory: str, settings: Settings) -> Path:
    """The file of `--memory FILE`: a bare name lies in the folder where labeling configs look for it."""
    path = Path(memory if memory.endswith(SUFFIX) else memory + SUFFIX)
    return settings.memory_folder / path if path.name == str(path) else path


def named(path: Path, settings: Settings, digest: str) -> str:
    """What `car_memory` says for a file. Raises ProposalError where a labeling config cannot name it."""
    name = path.name.removesuffix(SUFFIX)
    if path.parent.resolve() != settings.memory_folder.resolve() or not re.fullmatch(r"\w[\w.-]{0,99}", name):
        raise ProposalError(
            f"Labeling configs name memories in {settings.memory_folder} (CAR_MEMORY), by letters, digits, dots and "
            f"dashes: give --memory a bare name like logos, not {path}."
        )
    return f"{name}#{digest}"


def mistaken(example: Example, labels: tuple[str, ...], share: float) -> Masks:
    """The masks of an example as an annotator would submit them who calls a share of the regions something else."""
    chance = random.Random(example.task)
    right, masks = example.masks(), dict[str, NDArray[np.bool_]]()
    for label, mask in sorted(right.items()):
        others = [one for one in labels if one not in right and one not in masks]
        masks[chance.choice(others) if chance.random() < share and others else label] = mask
    return masks


def _renaming(example: Example, renamed: Mapping[str, str]) -> Callable[[], Masks]:
    return lambda: {renamed.get(label, label): mask for label, mask in example.masks().items()}
