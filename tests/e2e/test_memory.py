"""A word that CLIP does not know is taught by submitted masks, in a real project, and found from then on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend.labeling.parsing import parse_config
from backend.local.demo_project import Scenes
from backend.masks import brush
from tests.e2e.support import SCENES, Backend, LabelStudio, Project, eventually, run_command

WORDS = {"zorblax": "firefox logo", "statue of liberty": "statue of liberty", "mount fuji": "mount fuji"}
"""What the project calls things, and what they are in the scenes."""


def command(backend: Backend, studio: LabelStudio, project: Project, folder: Path, *options: str) -> str:
    """What `python -m backend corrections` says of the project."""
    asked = ("corrections", "--project", str(project.id), *options)
    done = run_command(*asked, studio=studio, backend=backend, CAR_MEMORY=str(folder), CAR_PRESET="demo")
    assert done.returncode == 0, done.stderr
    return done.stdout


def truth(image: Path) -> list[dict[str, Any]]:
    """The regions that an annotator would submit."""
    names = (SCENES / "classes.txt").read_text().splitlines()
    index = np.asarray(Image.open(SCENES / "masks" / image.name))
    masks = {word: index == names.index(name) + 1 for word, name in WORDS.items()}
    return [brush.region(mask, word, "label", "image", None, word) for word, mask in masks.items() if mask.any()]


def found(project: Project) -> dict[int, set[str]]:
    """The labels of each task's newest prediction."""
    newest = {task: max(stored, key=lambda one: int(one["id"])) for task, stored in project.predictions().items()}
    return {task: {region["value"]["brushlabels"][0] for region in one["result"]} for task, one in newest.items()}


@pytest.mark.timeout(900)
def test_a_new_word_is_learnt_from_corrections_and_forgotten(
    new_backend: Callable[..., Backend],
    new_project: Callable[..., Project],
    scenes: Scenes,
    label_studio: LabelStudio,
    tmp_path: Path,
) -> None:
    backend = new_backend(CAR_MEMORY=str(tmp_path))
    project = new_project(backend.url, labels=tuple(WORDS))
    held = [image for image in scenes.images if any(one["id"] == "zorblax" for one in truth(image))][-2:]
    taught = [image for image in scenes.images if image not in held]
    tasks = project.add_images(taught)
    project.await_predictions()
    assert not any("zorblax" in labels for labels in found(project).values()), "nobody knows this word"

    session = label_studio.studio.session
    for task, image in zip(tasks[:3], taught[:3], strict=True):
        session.send("POST", f"/api/tasks/{task}/annotations/", json={"result": truth(image), "lead_time": 5.0})

    def corrected() -> int:
        return int(json.loads(command(backend, label_studio, project, tmp_path, "--json"))["tasks"])

    eventually(lambda: corrected() == 3, 60, "three comparisons", every=1)
    assert "Too few: 3 corrected tasks, 10 are needed" in command(
        backend, label_studio, project, tmp_path, "--memory", "words"
    )
    assert not list(tmp_path.glob("*.safetensors"))
    for task, image in zip(tasks[3:], taught[3:], strict=True):
        session.send("POST", f"/api/tasks/{task}/annotations/", json={"result": truth(image), "lead_time": 5.0})
    eventually(lambda: corrected() == len(tasks), 60, "all comparisons", every=1)
    said = command(backend, label_studio, project, tmp_path, "--memory", "words")
    (file,) = tmp_path.glob("*.safetensors")
    assert file.stem == "words", said

    command(backend, label_studio, project, tmp_path, "--apply")
    config = parse_config((project.studio.project(project.id) or {})["label_config"], "demo")
    ((name, value),) = config.images[0].overrides
    assert (name, value.split("#")[0]) == ("memory", "words")
    new = project.add_images(held)
    eventually(lambda: all(project.predictions()[task] for task in new), 120, "predictions with the memory", every=1)
    assert any("zorblax" in found(project)[task] for task in new), found(project)

    before = file.read_bytes()
    command(backend, label_studio, project, tmp_path, "--memory", "words", "--forget", str(tasks[0]), "--apply")
    assert file.read_bytes() != before
    again = parse_config((project.studio.project(project.id) or {})["label_config"], "demo")
    assert again.version() != config.version()
