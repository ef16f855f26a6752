"""The demo project: scenes of the demo world in an ordinary project, connected as any project would be."""

from __future__ import annotations

import colorsys
import time
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from backend.local.processes import LocalError
from backend.studio.client import Studio, StudioError

TITLE = "Landmarks and brands"
BACKEND_TITLE = "CLIP-as-RNN"
"""The name of the backend in a project's settings."""

CONNECT_PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds after each attempt to connect that failed, before the last one."""

INSTRUCTION = """
<p><b>The masks are there already.</b> Correct what is wrong and press <b>Submit</b>.</p>
<ul>
<li>Click a region in the list, then take the brush (B) to add to it or the eraser (E) to take away from it.</li>
<li>To remove a region, select it and press Backspace. To add one, click its label and paint.</li>
<li>The number beside a region is the model's confidence in its label.</li>
</ul>
<p>To teach it new words, add labels in Settings &gt; Labeling Interface, select the tasks in the Data Manager and
choose <b>Retrieve predictions</b>. The model of this demo is tiny and knows only the drawn scenes of this project.</p>
"""


@dataclass(frozen=True)
class Scenes:
    """Images and the words that are looked for in them."""

    images: tuple[Path, ...]
    labels: tuple[str, ...]


def load_scenes(folder: Path) -> Scenes:
    """Read `images/` and, from `queries/`, the words that are asked of them. Raises LocalError if they are missing."""
    images = tuple(sorted((folder / "images").glob("*.png")))
    asked = [line for path in sorted((folder / "queries").glob("*.txt")) for line in path.read_text().splitlines()]
    labels = tuple(dict.fromkeys(line for line in asked if line.strip()))
    if not images or not labels:
        raise LocalError(f"The demo's scenes are missing in {folder}. Check out the repository anew.")
    return Scenes(images, labels)


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
            '  <BrushLabels name="label" toName="image">',
            *lines,
            "  </BrushLabels>",
            "</View>",
        ]
    )


def ensure_project(studio: Studio, known: int | None, labels: tuple[str, ...]) -> int:
    """Return the id of the demo project: the `known` one if it still exists, else one of its title, else a new one."""
    if known is not None and studio.project(known) is not None:
        return known
    found = next((one["id"] for one in studio.projects() if one["title"] == TITLE), None)
    if found is not None:
        return int(found)
    return studio.create_project(
        TITLE,
        labeling_config(labels),
        description="Drawn scenes, pre-labelled with brush masks by CLIP-as-RNN.",
        expert_instruction=INSTRUCTION,
        show_instruction=False,
        color="#617ADA",
    )


def ensure_connected(studio: Studio, project: int, url: str, auth: tuple[str, str] | None) -> None:
    """Connect the backend at `url` to the project, unless it is connected.

    Label Studio 1.23 gives a backend one second to answer /health: on a busy machine the first attempts may fail.
    """
    if any(backend["url"] == url for backend in studio.backends(project)):
        return
    for pause in CONNECT_PAUSES:
        try:
            studio.connect_backend(project, url, BACKEND_TITLE, auth)
            return
        except StudioError:
            time.sleep(pause)
    studio.connect_backend(project, url, BACKEND_TITLE, auth)


def move_backends(studio: Studio, old: str, new: str, auth: tuple[str, str] | None) -> int:
    """Point every project's backend at `old` to `new`, as its port has changed; return how many there were."""
    moved = 0
    for project in studio.projects():
        for backend in studio.backends(project["id"]):
            if backend["url"] == old:
                studio.move_backend(project["id"], backend["id"], new, auth)
                moved += 1
    return moved


def count_prelabelled(studio: Studio, project: int) -> tuple[int, int]:
    """Return how many tasks of the project have a prediction, and how many tasks there are."""
    counts = [int(task["total_predictions"]) > 0 for task in studio.tasks(project)]
    return sum(counts), len(counts)
