"""The sets of settings that have a name: what the paper publishes, what the released code does, what we serve.

The faithful presets (`voc`, `coco-object`, `context`) hold the values of the authors' released code, its quirks
included; the service presets (`demo`, `photos`) switch the quirks off. Imports without torch, so that the web process
can use it.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from model.settings import Preset, PresetError, changed, settings

__all__ = ["DEMO", "PRESETS", "Preset", "PresetError", "preset", "settings"]

HERE = Path(__file__).parent
DEMO = HERE / "demo"
_RIVALS = HERE / "rivals.txt"  # common things of photographs


def _lines(path: Path) -> tuple[str, ...]:
    return tuple(line for line in path.read_text(encoding="utf-8").splitlines() if line)


def _demo_rivals() -> tuple[str, ...]:
    return tuple(line.split("\t")[1].replace(", ", "/") for line in _lines(DEMO / "concepts.txt"))


def _demo_grounds() -> tuple[str, ...]:
    grounds: dict[str, list[str]] = json.loads((DEMO / "grounds.json").read_text(encoding="utf-8"))
    return tuple(word for names in grounds.values() for word in names)


_VOC = Preset(name="voc", eta=0.4, theta=0.6, lambda_=0.4, prompts=("circle", "blur"))
_COCO_OBJECT = Preset(name="coco-object", eta=0.5, theta=0.3, lambda_=0.5, prompts=("blur", "gray"))
_CONTEXT = Preset(name="context", eta=0.6, theta=0.25, lambda_=0.4, prompts=("blur", "circle"))
_SERVICE = Preset(
    scoring="mean",
    keep_best="no",
    own_background="drop",
    classifier_last_block="keep",
    classifier_view="letterbox",
    positions="exact",
    empty_map="drop",
    flat_map="keep",
    box_edge="keep",
    box_side="target",
    gray_weights="rgb",
    ellipse="box",
    crf_image="plain",
    first_template="a photo of a {}.",
    later_template="a photo of a {}.",
    background_template="a photo of a {}.",
    max_patches=1200,
    crf_max_side=1024,
    min_region=0.0005,
)
# Chosen on the demo scenes for validation. The demo CLIP has learnt objects a few patches wide: larger images are seen
# at the size of its scenes.
_DEMO = replace(
    _SERVICE,
    name="demo",
    weights="demo",
    eta=0.3,
    theta=0.07,
    presence=0.002,
    background=_demo_grounds(),
    background_power=3.0,
    score_power=0.1,
    rivals=_demo_rivals(),
    map_rivals="yes",
    classifier_view="squash",
    crf_smooth_weight=1.0,
    max_patches=480,
    crf_max_side=640,
)
# What is not measured on photographs stays as published (VOC's setting, which is the paper's main one). Three templates
# instead of fifteen: a CPU encodes the rivals in some tens of seconds, once per process.
_PHOTOS = replace(
    _SERVICE,
    name="photos",
    prompts=("circle", "blur"),
    eta=0.4,
    lambda_=0.4,
    rivals=_lines(_RIVALS),
    templates=("a clean origami {}.", "a photo of a {}.", "There is a {} in the scene."),
)

PRESETS: Mapping[str, Preset] = {p.name: p for p in (_VOC, _COCO_OBJECT, _CONTEXT, _DEMO, _PHOTOS)}


def preset(name: str, overrides: Mapping[str, str] = {}) -> Preset:
    """Look a preset up and replace settings by their text: numbers, words, or lists with commas between.

    Raises PresetError that names the valid presets, settings or values.
    """
    if name not in PRESETS:
        raise PresetError(f"There is no preset {name!r}; there are: {', '.join(PRESETS)}.")
    return changed(PRESETS[name], overrides)
