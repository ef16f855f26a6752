"""The demo projects: scenes of the demo world in ordinary projects, connected as any project would be.

One asks every image for the same words, the other asks each for its own.
"""

from __future__ import annotations

import colorsys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from backend.local.processes import LocalError
from backend.local.services import ROOT
from backend.studio.client import Studio, StudioError

BACKEND_TITLE = "CLIP-as-RNN"
"""The name of the backend in a project's settings."""

ASK = '<TextArea name="ask" toName="image" smartOnly="true" placeholder="What is missing? Press Enter."/>'
"""A field to ask with in the open task, see docs/interactive.md; clicks and boxes would need all labels once more."""

CONNECT_PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds after each attempt to connect that failed, before the last one."""

INSTRUCTION = """
<p><b>The masks are there already.</b> Correct what is wrong and press <b>Submit</b>.</p>
<ul>
<li>Click a region in the list, then take the brush (B) to add to it or the eraser (E) to take away from it.</li>
<li>To remove a region, select it and press Backspace. To add one, click its label and paint.</li>
<li>Something is missing? Write it into the field below the image and press Enter: its mask comes as a suggestion, to
be accepted with the tick below it.</li>
<li>The number beside a region is the model's confidence in its label.</li>
</ul>
"""
NEW_WORDS = """
<p>To teach it new words, add labels in Settings &gt; Labeling Interface, select the tasks in the Data Manager and
choose <b>Retrieve predictions</b>. The model of this demo is tiny and knows only the drawn scenes of this project.</p>
"""
OWN_WORDS = """
<p>The labels of each task come with its data (field <b>labels</b>): things in their colours. Half of them are not in
the image, and are filtered out. The model of this demo is tiny and knows only the drawn scenes of this project.</p>
"""


@dataclass(frozen=True)
class DemoProject:
    """A project to be made: its texts, its scenes, and whether each of them has words of its own.

    name: what a local run remembers it by.
    """

    name: str
    title: str
    description: str
    instruction: str
    color: str
    folder: Path
    has_own_words: bool = False


LANDMARKS = DemoProject(
    name="landmarks",
    title="Landmarks and brands",
    description="Drawn scenes, pre-labelled with brush masks by CLIP-as-RNN.",
    instruction=INSTRUCTION + NEW_WORDS,
    color="#617ADA",
    folder=ROOT / "model" / "demo" / "scenes" / "project",
)
EXPRESSIONS = DemoProject(
    name="expressions",
    title="In their own words",
    description="Things of one kind in several colours: every image is asked for words of its own, such as “red car”.",
    instruction=INSTRUCTION + OWN_WORDS,
    color="#E59A3C",
    folder=ROOT / "model" / "demo" / "scenes" / "expressions",
    has_own_words=True,
)
PROJECTS = (LANDMARKS, EXPRESSIONS)


@dataclass(frozen=True)
class Scenes:
    """Images, the words that are looked for in each of them, and all of these words once."""

    images: tuple[Path, ...]
    words: tuple[tuple[str, ...], ...]
    labels: tuple[str, ...]


def load_scenes(folder: Path) -> Scenes:
    """Read `images/` and `queries/`, the words that are asked of them. Raises LocalError if they are missing."""
    images = tuple(sorted(path for path in (folder / "images").glob("*") if path.suffix in (".png", ".jpg")))
    try:
        words = tuple(_words(folder / "queries" / f"{image.stem}.txt") for image in images)
    except OSError:
        words = ()
    labels = tuple(dict.fromkeys(word for asked in words for word in asked))
    if not labels:
        raise LocalError(f"The demo's scenes are missing in {folder}. Check out the repository anew.")
    return Scenes(images, words, labels)


def _words(path: Path) -> tuple[str, ...]:
    return tuple(line.strip() for line in path.read_text().splitlines() if line.strip())


def palette(count: int) -> list[str]:
    """Return so many colours (`#rrggbb`) that differ from their neighbours and are dark enough to be read as text."""
    lightnesses = (0.44, 0.32, 0.56)
    colours = []
    for index in range(count):
        hue = index * 0.381966 % 1.0  # steps of the golden angle
        channels = colorsys.hls_to_rgb(hue, lightnesses[index % len(lightnesses)], 0.8)
        colours.append("#" + "".join(f"{round(255 * channel):02x}" for channel in channels))
    return colours


def labeling_config(labels: tuple[str, ...]) -> str:
    """Return a labeling config for brush masks with these labels."""
    lines = [
        f"    <Label value={quoteattr(label)} background={quoteattr(colour)}/>"
        for label, colour in zip(labels, palette(len(labels)), strict=True)
    ]
    return "\n".join(
        [
            "<View>",
            '  <Image name="image" value="$image" zoom="true" zoomControl="true"/>',
            f"  {ASK}",
            '  <BrushLabels name="label" toName="image">',
            *lines,
            "  </BrushLabels>",
            "</View>",
        ]
    )


def own_words_config() -> str:
    """Return a labeling config for brush masks whose labels are listed in each task's data, in `labels`."""
    return f"""<View>
  <Image name="image" value="$image" zoom="true" zoomControl="true"/>
  {ASK}
  <BrushLabels name="label" toName="image" value="$labels"/>
</View>"""


def ensure_project(studio: Studio, demo: DemoProject, known: int | None = None) -> int:
    """Return the id of a demo project: the `known` one if it still exists, else one of its title, else a new one."""
    if known is not None and studio.project(known) is not None:
        return known
    found = next((one["id"] for one in studio.projects() if one["title"] == demo.title), None)
    if found is not None:
        return int(found)
    return studio.create_project(
        demo.title,
        labeling_config(load_scenes(demo.folder).labels),
        description=demo.description,
        expert_instruction=demo.instruction,
        show_instruction=False,
        color=demo.color,
    )


def ensure_tasks(studio: Studio, demo: DemoProject, project: int) -> None:
    """Import the scenes, unless the project has tasks.

    Label Studio 1.23 takes no files for a config that reads two fields of a task: the one with words comes after them.
    """
    if next(studio.tasks(project), None) is not None:
        return
    scenes = load_scenes(demo.folder)
    studio.update_project(project, label_config=labeling_config(scenes.labels))
    addresses = studio.upload_files(project, scenes.images)
    tasks: list[dict[str, Any]] = [{"image": address} for address in addresses]
    if demo.has_own_words:
        studio.update_project(project, label_config=own_words_config())
        colours = dict(zip(scenes.labels, palette(len(scenes.labels)), strict=True))
        for task, words in zip(tasks, scenes.words, strict=True):
            task["labels"] = [{"value": word, "background": colours[word]} for word in words]
    studio.import_tasks(project, tasks)


def ensure_connected(studio: Studio, project: int, url: str, auth: tuple[str, str] | None) -> None:
    """Connect the backend at `url` to the project, unless it is connected.

    Label Studio 1.23 gives a backend one second to answer /health: on a busy machine the first attempts may fail.
    """
    if any(backend["url"] == url for backend in studio.backends(project)):
        return
    for pause in CONNECT_PAUSES:
        try:
            studio.connect_backend(project, url, BACKEND_TITLE, auth, is_interactive=True)
            return
        except StudioError:
            time.sleep(pause)
    studio.connect_backend(project, url, BACKEND_TITLE, auth, is_interactive=True)


def move_backends(studio: Studio, old: str, new: str, auth: tuple[str, str] | None) -> int:
    """Point every project's backend at `old` to `new`, as its port has changed; return how many there were."""
    moved = 0
    for project in studio.projects():
        for backend in studio.backends(project["id"]):
            if backend["url"] == old:
                studio.move_backend(project["id"], backend["id"], new, auth)
                moved += 1
    return moved


def count_prelabelled(studio: Studio, projects: Iterable[int]) -> tuple[int, int]:
    """Return how many tasks of the projects have a prediction, and how many tasks there are."""
    counts = [int(task["total_predictions"]) > 0 for project in projects for task in studio.tasks(project)]
    return sum(counts), len(counts)
