"""Walks a project and writes an export, which may be stopped at any time and goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from backend.export.choice import Plan, Task, as_of, chosen, unchanged
from backend.export.formats import Drawing, Format, Record, writer
from backend.export.names import file_name, stem
from backend.export.regions import RegionError, labels_in, place_of, regions, regions_at, size_of
from backend.images.decoding import ImageError
from backend.labeling.parsing import ConfigError, LabelingConfig, Picture, for_task, pictures
from backend.reconcile import read_tasks
from backend.studio.client import WHOLE_PAGE, Studio
from model.files import replacing, write_text

PARTIAL, WHOLE = "export.partial.jsonl", "export.jsonl"
"""What was written so far, one task a line after one for the `Plan`; renamed when all is written."""

Fetch = Callable[[str, int], npt.NDArray[np.uint8]]
"""`ImageFetcher.fetch`."""


class ExportError(Exception):
    """The export cannot begin; the message says what to do."""


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
    """One export into one folder; goes on where an interrupted one was.

    Raises ExportError when the folder holds another export, StudioError when there is something to go on with, but
    Label Studio does not tell what of it has changed since. Without a `studio` all of it is left as it is.
    """

    def __init__(
        self, plan: Plan, config: LabelingConfig, folder: Path, fetch: Fetch, studio: Studio | None = None
    ) -> None:
        self._plan, self._config, self._folder, self._fetch, self._studio = plan, config, folder, fetch, studio
        folder.mkdir(parents=True, exist_ok=True)
        self.summary = Summary()
        self._labels = list(plan.labels)
        self._lines: dict[int, Record] = {}
        self._stems: set[str] = set()
        earlier = self._resumed()
        kept, self._again = self._unchanged(earlier)
        for number in kept:
            self._note(earlier.pop(number))
        self._format: Format = writer(plan.format, folder, self._labels, plan.tolerance, config.one_image)
        if (folder / PARTIAL).exists():
            self._remove_files(earlier.values())
            self._rewrite()

    def run(self, tasks: Iterable[Task], told: Callable[[], object]) -> Summary:
        """Write tasks (`tasks()`), read whole; `told` is called after each.

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

    def _unchanged(self, earlier: Mapping[int, Record]) -> tuple[list[int], list[int]]:
        """`unchanged` for the log of an interrupted run."""
        if not earlier or self._studio is None:
            return sorted(earlier), []
        tasks = self._studio.tasks(self._plan.project, whole=self._plan.has_predictions)
        return unchanged(earlier, tasks, self._plan, self._config)

    def tasks(self) -> Iterator[Task]:
        """Read the tasks to write: those that changed since an interrupted run, then those beyond its last one.

        Raises StudioError.
        """
        if self._studio is None:
            return
        last = max(self._lines, default=0)
        for start in range(0, len(self._again), WHOLE_PAGE):
            numbers = self._again[start : start + WHOLE_PAGE]
            yield from (read_tasks(self._studio, self._plan.project, numbers, whole=True) or {}).values()
        yield from self._studio.tasks(self._plan.project, last, whole=True)

    def _note(self, line: Record) -> None:
        self.summary.add(line)
        self._learn(line.get("labels", ()))
        self._lines[line["task"]] = line
        self._stems |= {record["stem"] for record in line["images"]}

    def _learn(self, labels: Iterable[str]) -> list[str]:
        """Number labels that are new; return these."""
        new = [label for label in dict.fromkeys(labels) if label not in self._labels]
        self._labels += new
        return new

    def _export(self, task: Task) -> Record:
        """Write the images of a task; return its line in the log."""
        number, found = int(task["id"]), chosen(task, self._plan)
        line: Record = {"task": number, "as_of": as_of(task, self._plan), "images": []}
        if found is None:
            return line
        result = list(found.get("result") or [])
        try:
            shown = pictures(self._config, task.get("data"))
        except ConfigError as error:
            return {**line, "problem": str(error)}
        if self._config.has_task_labels:
            line["labels"] = self._learn([*task_labels(self._config, task.get("data")), *labels_in(result)])
        problems = strays(result, self._config, shown)
        for place, picture in enumerate(shown, 1):
            try:
                name = self._name(picture, number, place)
                line["images"].append(self._write(number, picture, name, regions_at(result, picture)))
                self._stems.add(name)
            except (RegionError, ImageError) as error:
                problems.append(f"{picture}: {error}" if len(shown) > 1 else str(error))
        return {**line, "problem": "; ".join(problems)} if problems else line

    def _write(self, task: int, picture: Picture, name: str, result: Sequence[Mapping[str, Any]]) -> Record:
        """Write one image; return what is remembered of it."""
        drawn = regions(result, self._labels)
        size, pixels = size_of(result), None
        if self._plan.images or size is None:
            pixels = self._fetch(picture.address, task)
            size = pixels.shape[0], pixels.shape[1]
        if drawn and drawn[0].mask.shape != size:
            height, width = drawn[0].mask.shape
            raise RegionError(f"the image is {size[1]} x {size[0]} now, its regions were drawn on {width} x {height}")
        imported = PurePosixPath(file_name(picture.address))
        file = f"{name}{'.jpg' if imported.suffix.lower() in ('.jpg', '.jpeg') else '.png'}"
        drawing = Drawing(task, name, file if self._plan.images else imported.name, *size, drawn, picture)
        if self._plan.images and pixels is not None:
            self._save(pixels, drawing)
        return self._format.write(drawing)

    def _name(self, picture: Picture, task: int, place: int) -> str:
        """A name for an image's files that no other has; `place` is its number among the task's images."""
        own = stem(picture.address)
        names = (own, f"{own}-{task}", f"{own}-{task}-{place}")
        return next((name for name in names if name not in self._stems), names[-1])

    def _save(self, picture: npt.NDArray[np.uint8], drawing: Drawing) -> None:
        (self._folder / "images").mkdir(exist_ok=True)
        path = self._folder / "images" / drawing.file
        with replacing(path) as partial:
            Pillow.fromarray(picture).save(partial, format="JPEG" if path.suffix == ".jpg" else "PNG", quality=95)

    def _resumed(self) -> dict[int, Record]:
        """Read what an interrupted run wrote, by task; a last line that was cut off is forgotten."""
        for name in (PARTIAL, WHOLE):
            path = self._folder / name
            if not path.exists():
                continue
            with path.open(encoding="utf-8") as log:
                complete = [line for line in log if line.endswith("\n")]
            if complete and json.loads(complete[0]) != json.loads(_line(asdict(self._plan))):
                raise ExportError(
                    f"{self._folder} holds another export (see the first line of {name}). Choose another --out, or "
                    "delete that folder."
                )
            return {line["task"]: line for line in map(json.loads, complete[1:])} if name == PARTIAL else {}
        return {}

    def _finish(self) -> None:
        """Write what tells of all images; delete files of an earlier export whose tasks are gone since."""
        if self._again:
            self._rewrite()
        self._format.finish(self._records())
        earlier = self._folder / WHOLE
        if earlier.exists():
            with earlier.open(encoding="utf-8") as log:
                self._remove_files(json.loads(line) for line in list(log)[1:])
        (self._folder / PARTIAL).replace(earlier)

    def _records(self) -> Iterator[Record]:
        """The records of all images, by rising id of their tasks."""
        return (record for _, line in sorted(self._lines.items()) for record in line["images"])

    def _rewrite(self) -> None:
        """Write the log anew, by rising id of the tasks."""
        lines = [_line(asdict(self._plan)), *(_line(line) for _, line in sorted(self._lines.items()))]
        write_text(self._folder / PARTIAL, "".join(lines))

    def _remove_files(self, lines: Iterable[Record]) -> None:
        """Delete the files that these lines tell of, but for those that are still part of the export."""
        kept = {path for record in self._records() for path in self._files(record)}
        for path in {path for line in lines for record in line["images"] for path in self._files(record)} - kept:
            path.unlink(missing_ok=True)

    def _files(self, record: Record) -> list[Path]:
        pictures = [self._folder / "images" / record["file"]] if self._plan.images else []
        return [*self._format.files(record), *pictures]


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


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n"
