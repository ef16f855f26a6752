"""Results on disk: one small file for each image, so that a run that was killed goes on where it was.

A results folder holds one folder for each combination of data set and settings, RUN = DATASET-SPLIT-CHECKSUM:

    RUN/settings.json         what was measured, and with which settings
    RUN/images/NAME.json      one image's record
    RUN/masks/NAME.png        what was found there, as an index map

The checksum is over the settings, weights, texts and files, so that other settings never mix. Every file appears whole
or not at all.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from model.benchmarks.dataset import Dataset, DatasetError, Task
from model.benchmarks.figures import Scheme
from model.benchmarks.records import Record
from model.files import replacing, write_text
from model.presets import DEMO
from model.settings import Preset

FORMAT = 1


@dataclass(frozen=True)
class Setup:
    """What a run is: a data set and all that its results depend on, and where the files lay (which they do not).

    preset: the settings' name; `preset_checksum` is over every one of them. weights: what replaced the preset's own, or
    "". images: how many the data set has. data: a checksum over names, texts and sizes of the data set's files.
    """

    dataset: str
    split: str
    preset: str
    preset_checksum: str
    weights: str
    weights_checksum: str
    images: int
    data: str
    task: Task
    classes: tuple[str, ...]
    background: bool
    settings: dict[str, Any] = field(default_factory=dict)
    root: str = ""
    format: int = FORMAT

    @property
    def checksum(self) -> str:
        """Eight hex digits over what the results depend on."""
        return _digest([value for key, value in asdict(self).items() if key not in ("root", "weights", "settings")])

    @property
    def folder(self) -> str:
        """The name of the run's folder."""
        return f"{self.dataset}-{self.split}-{self.checksum}"

    @property
    def title(self) -> str:
        """Return what was measured, for people: the data set and its split, or the folder's own name."""
        return f"{self.dataset} {Path(self.root).name if self.dataset == 'folder' else self.split}"

    def scheme(self, protocol: str = "default") -> Scheme:
        """Return how its records add up."""
        return Scheme(self.task, self.classes, self.background, protocol)


def setup_of(dataset: Dataset, root: Path, preset: Preset, weights: str | None) -> Setup:
    """Describe a run."""
    own = [(e.name, e.image.stat().st_size if e.image.is_file() else 0, e.truth.stamp) for e in dataset.examples]
    texts = sorted({(query.label, query.prompts, query.stuff) for e in dataset.examples for query in e.queries})
    asked = [tuple(query.label for query in example.queries) for example in dataset.examples]
    return Setup(
        dataset=dataset.name,
        split=dataset.split,
        preset=preset.name,
        preset_checksum=preset.checksum,
        weights=weights or "",
        weights_checksum=_weights_checksum(weights or preset.weights),
        images=len(dataset.examples),
        data=_digest([own, texts, asked]),
        task=dataset.task,
        classes=dataset.classes,
        background=dataset.background,
        settings=asdict(preset),
        root=str(root.resolve()),
    )


class Results:
    """One run's folder."""

    def __init__(self, parent: Path, setup: Setup) -> None:
        """Name the run's folder; nothing is written before `begin`."""
        self.setup = setup
        self.folder = parent / setup.folder

    def begin(self) -> None:
        """Make the folder, or take it up again."""
        for part in ("images", "masks"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self.setup), indent=1, ensure_ascii=False)
        write_text(self.folder / "settings.json", text + "\n")

    def records(self) -> dict[str, Record]:
        """Return the records there are, by the example's name; a file that cannot be read counts as not there."""
        return {record.name: record for record in map(_record, (self.folder / "images").glob("*.json")) if record}

    def add(self, record: Record, index: NDArray[np.uint16]) -> None:
        """Keep one image's record and its index map; the record comes last, so that it vouches for both."""
        picture = Pillow.fromarray(index if index.max(initial=0) > 255 else index.astype(np.uint8))
        with replacing(self.folder / "masks" / f"{record.name}.png") as path:
            picture.save(path, format="PNG")
        write_text(self.folder / "images" / f"{record.name}.json", json.dumps(record.as_json()))

    def mask(self, name: str) -> NDArray[np.uint16]:
        """Return the index map [H, W] of an image."""
        with Pillow.open(self.folder / "masks" / f"{name}.png") as picture:
            return np.array(picture).astype(np.uint16)


def open_run(folder: Path) -> Results:
    """Open a run's folder that exists. Raises DatasetError."""
    try:
        data = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        setup = Setup(**{**data, "classes": tuple(data["classes"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DatasetError(f"{folder} holds no results of an evaluation: {error}") from error
    if setup.format != FORMAT or setup.folder != folder.name:
        raise DatasetError(f"{folder} was written by another release, or renamed: measure again.")
    return Results(folder.parent, setup)


def runs(parent: Path) -> Iterator[Results]:
    """Open every run in a results folder, or the one it is itself. Raises DatasetError where there is none."""
    if (parent / "settings.json").is_file():
        yield open_run(parent)
        return
    found = sorted(path.parent for path in parent.glob("*/settings.json"))
    if not found:
        raise DatasetError(f"{parent} holds no results: `evaluate ... --results {parent}` writes them.")
    yield from map(open_run, found)


def _record(path: Path) -> Record | None:
    try:
        return Record.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:8]


def _weights_checksum(weights: str) -> str:
    """Return a checksum of the weights' file, or their name where nobody knows one."""
    folder = DEMO if weights == "demo" else Path(weights)
    file = folder / "open_clip_model.safetensors"
    if not file.is_file():
        return weights
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:8]
