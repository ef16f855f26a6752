"""Whether the demo CLIP understands referring expressions: which fits a prompted object, the true or the twisted one.

Scenes are drawn for it, with seeds of their own. Half right is what guessing gives.
"""

import random
from collections import defaultdict
from dataclasses import replace

import numpy as np
import torch

from model.classifier import Classifier
from model.demo.batches import sample
from model.demo.report import Figure, figure, share
from model.demo.scenes import Style, draw
from model.demo.sprites import atlas
from model.demo.words import Expression, refer, twisted
from model.segmenter import Segmenter

SEED = 6  # first number of the scenes' seeds
POINTS = ("color", "side", "size", "ground", "concept")


def understood(segmenter: Segmenter, count: int = 120, prompts: tuple[str, ...] = ("blur",)) -> dict[str, Figure]:
    """Return by what the two expressions differ in how often the true one fits better; images are `count` scenes."""
    encoder, preset = segmenter._classifier, replace(segmenter.preset, prompts=prompts)
    right: dict[str, list[float]] = defaultdict(lambda: [0.0] * count)
    asked: dict[str, list[float]] = defaultdict(lambda: [0.0] * count)
    for number in range(count):
        rng = random.Random(f"{SEED} {number}")
        scene = draw((SEED, 0, number), Style(nameless=0.0, worn=False), atlas())
        shown = sample(scene, 256, np.random.default_rng((SEED, 1, number)), kind=None)
        classifier = Classifier(encoder, shown.image, preset)
        for object_, seen in shown.seen.items():
            said = refer(seen, rng)
            other = twisted(said, rng)
            if said.fits(seen) is not True or other.fits(seen) is not False:
                continue
            texts = encoder.texts([said.text(rng), other.text(rng)])
            mask = torch.from_numpy(shown.objects == object_).to(encoder.device)
            fits = (classifier.look([mask]) @ texts.T)[0].tolist()
            for point in (difference(said, other), "any"):
                asked[point][number] += 1
                right[point][number] += fits[0] > fits[1]
    return {
        f"true expression beats one with another {point}": figure(
            share(np.array(right[point]), np.array(asked[point])), count
        )
        for point in (*POINTS, "any")
        if any(asked[point])
    }


def difference(said: Expression, other: Expression) -> str:
    """Return in which point two expressions differ."""
    return next(point for point in POINTS if getattr(said, point) != getattr(other, point))
