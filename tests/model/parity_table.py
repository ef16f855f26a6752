"""How far each stage is from the released code, case by case: `python -m tests.model.parity_table` prints the table.

The recordings in `parity/` were made by google-research's `clip_as_rnn` on the first demo CLIP (`clip/`). Maps are kept
at every fourth pixel.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow

from model.car import masks_of
from model.classifier import Classifier
from model.pictures import index_map, read_image
from model.presets import preset
from model.prompts import Prompter
from model.proposals import Proposer
from model.segmenter import Segmenter
from model.sizes import enlarge, resize
from model.vocabulary import vocabulary
from tests.weights import CLIP

RECORDINGS = Path(__file__).parent / "parity"
CASES = sorted(path.stem for path in RECORDINGS.glob("*.json"))


@dataclass(frozen=True)
class Recording:
    case: dict[str, Any]
    arrays: dict[str, np.ndarray]
    image: np.ndarray
    label: np.ndarray

    def mask(self, step: int) -> np.ndarray:
        packed = self.arrays[f"step{step}.binmask"]
        return np.unpackbits(packed, axis=-1)[..., : self.image.shape[1]].astype(bool)


@dataclass
class Apart:
    """The largest difference in any pass; shares of pixels for masks, prompted images and the label map."""

    maps_drawn: int = 0  # not a difference: how many there are
    cams: float = 0.0  # Grad-CAM
    cam_patches: int = 0  # of one map, how many differ by more than 1e-5
    maps: float = 0.0  # refined and enlarged
    masks: float = 0.0
    prompted: float = 0.0
    scores: float = 0.0
    survivors: int = 0  # passes with others
    label_map: float = 0.0
    final_scores: float = 0.0


def read(name: str) -> Recording:
    with Pillow.open(RECORDINGS / f"{name}.label.png") as picture:
        label = np.array(picture)
    case = json.loads((RECORDINGS / f"{name}.json").read_text())
    return Recording(case, dict(np.load(RECORDINGS / f"{name}.npz")), read_image(RECORDINGS / f"{name}.png"), label)


def compare_stages(recording: Recording, segmenter: Segmenter) -> Apart:
    """Run each stage on what the released code's earlier stages left."""
    apart = Apart()
    case, arrays, chosen = recording.case, recording.arrays, segmenter.preset
    names: list[str] = case["queries"]
    size = recording.image.shape[:2]
    texts = segmenter._texts(vocabulary(names))
    pixels = resize(recording.image, *(-(-side // 16) * 16 for side in size))
    proposer = Proposer(segmenter._proposals, segmenter._proposals.pixels([pixels]), chosen)
    classifier = Classifier(segmenter._classifier, recording.image, chosen)
    prompter = Prompter(recording.image, chosen.prompts, chosen.gray_weights, chosen.ellipse)
    alive = list(range(len(names)))
    for step, survivors in enumerate(case["steps"]):
        queries, rows = (texts.later if step else texts.first)[alive], range(len(alive))
        for cam in proposer.cams(queries, texts.background, rows):
            off = np.abs(cam.numpy() - arrays[f"gradcam.{apart.maps_drawn:03d}"])
            apart.cams, apart.cam_patches = max(apart.cams, off.max()), max(apart.cam_patches, int((off > 1e-5).sum()))
            apart.maps_drawn += 1
        maps = proposer.propose(queries, texts.background, rows)
        off = np.abs(enlarge(maps.numpy(), *size)[:, ::4, ::4] - arrays[f"cams.{step:03d}"])
        apart.maps = max(apart.maps, off.max())
        masks = masks_of(maps, size, chosen)
        for mask, expected in zip(masks, recording.mask(step), strict=True):
            differs = 1.0 if mask is None else float((mask.numpy() != expected).mean())
            apart.masks = max(apart.masks, differs)
        if step == 0:
            (prompted,) = prompter([torch.from_numpy(recording.mask(0)[0])])
            apart.prompted = float((prompted.numpy() != arrays["prompted.0"]).mean())
        scores = classifier.score(masks, texts.bank[alive], rows)
        apart.scores = max(apart.scores, np.abs(scores - arrays[f"step{step}.scores"]).max())
        alive = [names.index(name) for name in survivors]
    return apart


def compare_whole(recording: Recording, segmenter: Segmenter, apart: Apart) -> Apart:
    """Run the whole method."""
    names = recording.case["queries"]
    result = segmenter.segment(recording.image, vocabulary(names))
    ours, theirs = [list(step.queries) for step in result.steps], recording.case["steps"]
    survivors = abs(len(ours) - len(theirs)) + sum(mine != yours for mine, yours in zip(ours, theirs, strict=False))
    label_map = float((index_map(result, names) != recording.label).mean())
    scores = dict.fromkeys(names, 0.0) | dict(zip(result.labels, result.scores.tolist(), strict=True))
    final = float(np.abs(np.array(list(scores.values())) - recording.case["scores"]).max())
    return replace(apart, survivors=survivors, label_map=label_map, final_scores=final)


def main() -> None:
    """Print the table of docs/method.md."""
    torch.set_num_threads(1)
    print("| case | preset | labels | passes | Grad-CAM | maps | masks | prompted | scores | survivors | label map |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name in CASES:
        recording = read(name)
        case = recording.case
        segmenter = Segmenter(replace(preset(case["preset"], case["set"]), weights=str(CLIP)), "cpu")
        apart = compare_whole(recording, segmenter, compare_stages(recording, segmenter))
        print(
            f"| `{name}` | `{case['preset']}` | {len(case['queries'])} | {len(case['steps'])} | {apart.cams:.0e} "
            f"| {apart.maps:.0e} | {apart.masks:.1e} | {'equal' if apart.prompted == 0 else f'{apart.prompted:.1e}'} "
            f"| {max(apart.scores, apart.final_scores):.0e} | {'equal' if apart.survivors == 0 else apart.survivors} "
            f"| {100 * (1 - apart.label_map):.3f} % |",
            flush=True,
        )


if __name__ == "__main__":
    main()
