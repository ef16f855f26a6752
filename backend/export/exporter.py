"""Walks a project and writes an export, which may be stopped at any time and goes on where it was."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from backend.export.formats import Drawing, Format, Record, writer
from backend.export.regions import RegionError, labels_in, place_of, regions, regions_at, size_of
from backend.images.decoding import ImageError
from backend.labeling.parsing import ConfigError, LabelingConfig, Picture, for_task, pictures
from model.files import replacing, write_text

PARTIAL, WHOLE = "export.partial.jsonl", "export.jsonl"
"""What was written so far, one task a line after one for the `Plan`; renamed when all is written."""

Fetch = Callable[[str, int], npt.NDArray[np.uint8]]
"""`ImageFetcher.fetch`."""


class ExportError(Exception):
    """The export cannot begin; the message says what to do."""


@dataclass(frozen=True)
class Plan:
    """What is exported: two runs with equal plans may share a folder.

    source: `annotations` or `predictions`. labels: as Label Studio stores them, in the order of the labeling config;
    where tasks bring labels along, those that are met come after them.
    version: of the predictions; "" for the newest that this backend made. tolerance: of outlines, in pixels.
    """

    project: int
    format: str
    source: str
    labels: tuple[str, ...]
    version: str = ""
    tolerance: float = 0.5
    images: bool = False


@dataclass
class Summary:
    """How an export went: images written, tasks without what was asked for, and what could not be written, and why."""

    tasks: int = 0
    written: int = 0
    without: int = 0
    problems: dict[int, str] = field(default_factory=dict)

    def add(self, line: Mapping[str, Any]) -> None:
        """Count a task by its line in the log."""
        self.tasks += 1
        self.written += len(line["images"])
        if "problem" in line:
            self.problems[line["task"]] = line["problem"]
        self.without += not line["images"] and "problem" not in line


class Exporter:
    """One export into one folder. Raises ExportError when the folder holds another one."""

    def __init__(self, plan: Plan, config: LabelingConfig, folder: Path, fetch: Fetch) -> None:
        self._plan, self._config, self._folder, self._fetch = plan, config, folder, fetch
        folder.mkdir(parents=True, exist_ok=True)
        self.summary = Summary()
        self.after = 0
        """The last task that an interrupted run came to; 0 when there was none."""
        self._labels = list(plan.labels)
        self._records: list[Record] = []
        self._stems: set[str] = set()
        for line in self._resumed():
            self._note(line)
        self._format: Format = writer(plan.format, folder, self._labels, plan.tolerance, config.one_image)

    def run(self, tasks: Iterator[Mapping[str, Any]], told: Callable[[], object]) -> Summary:
        """Write tasks, by rising id and with all that hangs on them, beyond `after`; `told` hears of each.

        What cannot be written is a problem of its task: the others go on, and so do the task's other images.
        """
        with (self._folder / PARTIAL).open("a", encoding="utf-8") as log:
            if log.tell() == 0:
                log.write(_line(asdict(self._plan)))
            for task in tasks:
                line = self._export(task)
                self._note(line)
                log.write(_line(line))
                log.flush()
                told()
        self._finish()
        return self.summary

    def _note(self, line: Record) -> None:
        self.summary.add(line)
        self.after = line["task"]
        self._learn(line.get("labels", ()))
        self._records += line["images"]
        self._stems |= {record["stem"] for record in line["images"]}

    def _learn(self, labels: Iterable[str]) -> list[str]:
        """Number labels that are new; return these."""
        new = [label for label in dict.fromkeys(labels) if label not in self._labels]
        self._labels += new
        return new

    def _export(self, task: Mapping[str, Any]) -> Record:
        """Write the images of a task; return its line in the log."""
        number, result = int(task["id"]), chosen(task, self._plan)
        line: Record = {"task": number, "images": []}
        if result is None:
            return line
        try:
            shown = pictures(self._config, task.get("data"))
        except ConfigError as error:
            return {**line, "problem": str(error)}
        if self._config.has_task_labels:
            line["labels"] = self._learn([*task_labels(self._config, task.get("data")), *labels_in(result)])
        problems = strays(result, self._config, shown)
        for place, picture in enumerate(shown, 1):
            try:
                stem = self._stem(picture, number, place)
                line["images"].append(self._write(number, picture, stem, regions_at(result, picture)))
                self._stems.add(stem)
            except (RegionError, ImageError) as error:
                problems.append(f"{picture}: {error}" if len(shown) > 1 else str(error))
        return {**line, "problem": "; ".join(problems)} if problems else line

    def _write(self, task: int, picture: Picture, stem: str, result: Sequence[Mapping[str, Any]]) -> Record:
        """Write one image; return what is remembered of it."""
        drawn = regions(result, self._labels)
        size, pixels = size_of(result), None
        if self._plan.images or size is None:
            pixels = self._fetch(picture.address, task)
            size = pixels.shape[0], pixels.shape[1]
        if drawn and drawn[0].mask.shape != size:
            height, width = drawn[0].mask.shape
            raise RegionError(f"the image is {size[1]} x {size[0]} now, its regions were drawn on {width} x {height}")
        name = PurePosixPath(file_name(picture.address))
        file = f"{stem}{'.jpg' if name.suffix.lower() in ('.jpg', '.jpeg') else '.png'}"
        drawing = Drawing(task, stem, file if self._plan.images else name.name, *size, drawn, picture)
        if self._plan.images and pixels is not None:
            self._save(pixels, drawing)
        return self._format.write(drawing)

    def _stem(self, picture: Picture, task: int, place: int) -> str:
        """A name for an image's files that no other has; `place` is its number among the task's images."""
        stem = PurePosixPath(file_name(picture.address)).stem
        names = (stem, f"{stem}-{task}", f"{stem}-{task}-{place}")
        return next((name for name in names if name not in self._stems), names[-1])

    def _save(self, picture: npt.NDArray[np.uint8], drawing: Drawing) -> None:
        (self._folder / "images").mkdir(exist_ok=True)
        path = self._folder / "images" / drawing.file
        with replacing(path) as partial:
            Pillow.fromarray(picture).save(partial, format="JPEG" if path.suffix == ".jpg" else "PNG", quality=95)

    def _resumed(self) -> Iterator[Record]:
        """Read what an interrupted run wrote; a last line that was cut off is forgotten."""
        for name in (PARTIAL, WHOLE):
            path = self._folder / name
            if not path.exists():
                continue
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            if lines and json.loads(lines[0]) != json.loads(_line(asdict(self._plan))):
                raise ExportError(
                    f"{self._folder} holds another export (see the first line of {name}). Choose another --out, or "
                    "delete that folder."
                )
            if name == WHOLE:
                return
            complete = [line for line in lines if line.endswith("\n")]
            write_text(path, "".join(complete))
            yield from map(json.loads, complete[1:])
            return

    def _finish(self) -> None:
        """Write what tells of all images; delete files of an earlier export whose tasks are gone since."""
        self._format.finish(self._records)
        kept = {path for record in self._records for path in self._files(record)}
        earlier = self._folder / WHOLE
        if earlier.exists():
            before = [json.loads(line) for line in earlier.read_text(encoding="utf-8").splitlines()[1:]]
            for path in {path for line in before for record in line["images"] for path in self._files(record)} - kept:
                path.unlink(missing_ok=True)
        (self._folder / PARTIAL).replace(earlier)

    def _files(self, record: Record) -> list[Path]:
        pictures = [self._folder / "images" / record["file"]] if self._plan.images else []
        return [*self._format.files(record), *pictures]


def chosen(task: Mapping[str, Any], plan: Plan) -> list[Mapping[str, Any]] | None:
    """The result to export of a task with its annotations and predictions; None when it has none of that kind.

    Of annotations the one marked as ground truth, else the one changed last; skipped ones do not count. Of predictions
    the newest of the plan's version, or of any that this backend made.
    """
    if plan.source == "annotations":
        found = [one for one in task.get("annotations") or [] if not one.get("was_cancelled")]
        found.sort(key=lambda one: (bool(one.get("ground_truth")), str(one.get("updated_at")), one.get("id", 0)))
    else:
        found = [one for one in task.get("predictions") or [] if _ours(str(one.get("model_version")), plan.version)]
        found.sort(key=lambda one: one.get("id", 0))
    return list(found[-1].get("result") or []) if found else None


def task_labels(config: LabelingConfig, data: object) -> list[str]:
    """The labels that a task brings along, as Label Studio stores them; none where its data lists them no more."""
    try:
        own = for_task(config, data)
    except ConfigError:
        return []
    return [label.name for image in own.images for label in image.task_labels]


def strays(result: Sequence[Mapping[str, Any]], config: LabelingConfig, shown: Sequence[Picture]) -> list[str]:
    """What is wrong with regions on images of the labeling config that the task's data does not have (any more)."""
    tags, places = {image.name for image in config.images}, {(one.tag, one.page or 0) for one in shown}
    lost = {place for one in result if (place := place_of(one))[0] in tags} - places
    return [
        f"regions are on {tag}, image {page + 1}, which the task's data does not have" for tag, page in sorted(lost)
    ]


def _ours(version: str, wanted: str) -> bool:
    return version == wanted if wanted else version.startswith("car-")


def file_name(address: str) -> str:
    """The name of the file at an image's address, safe as a name in our folder.

    Label Studio 1.23 puts eight digits before the name of an upload; local files and cloud addresses keep the whole
    name in the path or in a query.
    """
    if address.startswith("data:"):
        return "image.png"
    parts = urlsplit(address)
    path = parse_qs(parts.query).get("d", [parts.path])[0] if "local-files" in parts.path else parts.path
    name = PurePosixPath(unquote(path)).name
    if "/upload/" in parts.path:
        name = re.sub(r"^[0-9a-f]{8}-", "", name)
    return re.sub(r"[^\w.,@()+ -]", "_", name).lstrip(".") or "image.png"


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n"
