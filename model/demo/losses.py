"""What the demo CLIP is taught, on one batch.

- image: the class token names what is in the image, or the prompted object; several names may be right;
- text: each name finds its images; captions find theirs;
- refer: referring expressions find the images with an object they are true of, and not their twisted twins;
- pooled, earlier: the same names from the mean of the patches and from the block before the last;
- patch: each patch of an object names it; told: and finds the referring expressions that are true of it;
- grouping: patches attend to patches of the same object;
- encircled, pointing: what a red circle means (see `circles`).

The last five, and the prompts, use the scenes' exact masks.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from model.demo import words
from model.demo.batches import PATCH, Batch
from model.demo.circles import circled
from model.demo.towers import look, read
from model.demo.world import concepts

WEIGHTS = {
    "image": 1.0,
    "text": 0.3,
    "caption": 0.5,
    "refer": 0.4,
    "pooled": 0.5,
    "earlier": 0.5,
    "patch": 0.5,
    "told": 0.3,
    "grouping": 0.15,
    "encircled": 4.0,
    "pointing": 1.0,
}
ABSENT = 48  # texts that fit nothing
NEVER = -1e4
Tokenize = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True)
class Texts:
    """The texts of one step. named: one for each class, then absent ones; fits: [C, C], which classes a name names.

    answers: by sample and object, of those that a sample is about, which expressions are true; None cannot be told.
    """

    named: tuple[str, ...]
    fits: Tensor
    captions: tuple[str, ...]
    expressions: tuple[words.Expression, ...]
    said: tuple[str, ...]
    answers: dict[tuple[int, int], tuple[bool | None, ...]]


@dataclass(frozen=True)
class Losses:
    """The weighted sum, the parts, and how often the best name is right: on plain images and on prompted ones."""

    total: Tensor
    parts: dict[str, float]
    right: float
    right_prompted: float


def texts(batch: Batch, rng: random.Random) -> Texts:
    """Choose the texts for a batch."""
    names = [words.named(number, rng) for number in range(len(words.classes()))]
    fits = torch.zeros(len(names), len(names))
    for column, name in enumerate(names):
        fits[list(words.vocabulary()[name]), column] = 1
    named = [rng.choice(words.TEMPLATES).format(name) for name in names]
    captions = []
    for row in batch.clean:
        one = batch.samples[row]
        captions.append(words.caption(list(one.visible.values()), one.behind, rng))
    expressions: dict[words.Expression, None] = {}
    for sample in batch.samples:
        if sample.meant:
            said = words.refer(sample.seen[rng.choice(sample.meant)], rng)
            expressions[said] = expressions[words.twisted(said, rng)] = None
    return Texts(
        (*named, *words.absent(rng, ABSENT)),
        fits,
        tuple(captions),
        tuple(expressions),
        tuple(expression.text(rng) for expression in expressions),
        {
            (row, number): tuple(expression.fits(sample.seen[number]) for expression in expressions)
            for row, sample in enumerate(batch.samples)
            for number in sample.meant
        },
    )


def losses(
    model: Any,
    probe: torch.nn.Linear,
    batch: Batch,
    chosen: Texts,
    tokenize: Tokenize,
    pixels: Tensor,
    precision: Any,
    look: Any = look,
) -> Losses:
    """Compute all losses. pixels: the batch's images scaled for the model; precision: a context of autocast."""
    device = pixels.device
    clean = torch.tensor(batch.clean, device=device)
    with precision:
        positions = batch.positions.to(device) if batch.positions is not None else None
        seen = look(model, pixels, positions)
        named, captions, said = (
            F.normalize(read(model, tokenize(part).to(device)).float(), dim=-1)
            for part in (chosen.named, chosen.captions, chosen.said)
        )
    scale = model.logit_scale.exp().clamp(max=100)
    targets = _Targets.of(batch, chosen, device)

    def scaled(features: Tensor) -> Tensor:
        compared: Tensor = scale * F.normalize(features.float(), dim=-1)
        return compared

    def logits(features: Tensor) -> Tensor:
        return (features @ named.T).masked_fill(targets.ignored, NEVER)

    shown = scaled(seen.image)
    image = logits(shown)
    plain = torch.zeros(len(pixels), dtype=torch.bool, device=device)
    plain[clean] = True
    parts = {
        "image": spread(image, targets.shares, targets.any),
        "text": found(shown @ named.T, targets.shares),
        "caption": pairs(shown[clean] @ captions.T),
        "refer": referred(shown @ said.T, *_truths(batch, chosen, device)),
        "pooled": spread(logits(scaled(seen.pooled)), targets.shares, targets.any & plain),
        "earlier": spread(logits(scaled(seen.earlier)), targets.shares, targets.any),
        **_patches(seen.patches[clean], seen.attention[clean], batch, chosen, scale * named, scale * said),
        **circled(seen, batch, probe),
    }
    total = torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum()
    with torch.no_grad():
        count = len(concepts())
        best = image[:, :count].argmax(dim=1)
        shows = targets.shares[:, :count]
        right = shows.gather(1, best[:, None])[:, 0] > 0
        known = shows.sum(dim=1) > 0
    return Losses(
        total,
        {name: float(part.detach()) for name, part in parts.items()},
        _share(right[known & plain]),
        _share(right[known & ~plain]),
    )


@dataclass(frozen=True)
class _Targets:
    """shares: [B, T], how much each text fits; any: bool [B], whether one does; ignored: bool [B, T]."""

    shares: Tensor
    any: Tensor
    ignored: Tensor

    @classmethod
    def of(cls, batch: Batch, chosen: Texts, device: torch.device) -> "_Targets":
        fitting = (batch.weights @ chosen.fits).clamp(max=1)
        unsure = ((batch.unsure.float() @ chosen.fits) > 0) & (fitting == 0)
        none = torch.zeros(len(fitting), len(chosen.named) - fitting.shape[1])
        shares = torch.cat([fitting, none], dim=1)
        ignored = torch.cat([unsure, none > 0], dim=1)
        return cls(shares.to(device), (shares.sum(dim=1) > 0).to(device), ignored.to(device))


def spread(logits: Tensor, shares: Tensor, rows: Tensor) -> Tensor:
    """Return the cross-entropy of rows with several right texts: [B, T] with shares [B, T] of those rows [B]."""
    wanted = shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-6)
    loss = -(wanted * logits.log_softmax(dim=1)).sum(dim=1)[rows]
    return torch.mean(loss) if len(loss) else logits.sum() * 0


def found(logits: Tensor, shares: Tensor) -> Tensor:
    """Return the cross-entropy of texts with several right images, for the texts that have one."""
    right = (shares > 0.2).float()
    asked = right.sum(dim=0) > 0
    return spread(logits.T, right.T, asked)


def pairs(logits: Tensor) -> Tensor:
    """Return CLIP's loss of pairs [N, N]."""
    if not len(logits):
        return logits.sum()
    same = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same))


def referred(logits: Tensor, true: Tensor, unsure: Tensor) -> Tensor:
    """Return the cross-entropy of images among expressions [B, E], and of expressions among images."""
    if not logits.shape[1]:
        return logits.sum()
    masked = logits.masked_fill(unsure, NEVER)
    shares = true.float()
    return 0.5 * (spread(masked, shares, true.any(dim=1)) + spread(masked.T, shares.T, true.any(dim=0)))


def _truths(batch: Batch, chosen: Texts, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return which expression is true of which sample, and of which that cannot be told: bool [B, E]."""
    true = torch.zeros(len(batch.samples), len(chosen.expressions), dtype=torch.bool)
    unsure = torch.zeros_like(true)
    for row, sample in enumerate(batch.samples):
        for column, said in enumerate(chosen.expressions):
            answers = [chosen.answers[row, number][column] for number in sample.meant]
            true[row, column] = any(answers)
            unsure[row, column] = not any(answers) and (None in answers or said.concept in sample.partly)
    return true.to(device), unsure.to(device)


def _patches(
    patches: Tensor, attention: Tensor, batch: Batch, chosen: Texts, scaled: Tensor, said: Tensor
) -> dict[str, Tensor]:
    """Return the losses of the patches of plain images.

    scaled, said: the embeddings of names and of referring expressions, times the logit scale.
    """
    rows = batch.clean
    device = patches.device
    if not rows:
        return {"patch": patches.sum() * 0, "told": patches.sum() * 0, "grouping": attention.sum() * 0}
    objects = batch.objects[rows].long().to(device)
    most = max(8, int(objects.max()) + 1)
    covered = F.one_hot(objects, most).permute(0, 3, 1, 2).float()
    share, number = F.avg_pool2d(covered, PATCH).flatten(2).max(dim=1)  # [c, n]
    sure = share > 0.6
    classes = torch.full((len(rows), most), -1, dtype=torch.long)
    behind = torch.zeros(len(rows), len(chosen.fits))
    for place, row in enumerate(rows):
        sample = batch.samples[row]
        for one, concept in sample.visible.items():
            classes[place, one] = concept
        behind[place, list(sample.behind)] = 1
    label = classes.to(device).gather(1, number)
    fits = chosen.fits.to(device)
    on_object = sure & (label >= 0)
    on_ground = sure & (number == 0)
    wanted = torch.zeros(*number.shape, len(fits), device=device)
    wanted[on_object] = fits[label[on_object]]
    grounds = ((behind.to(device) @ fits) > 0).float()[:, None].expand_as(wanted)
    some = on_ground & (torch.rand(number.shape, device=device) < 0.35)
    wanted[some] = grounds[some]
    asked = wanted.sum(dim=2) > 0
    named = F.normalize(patches[asked].float(), dim=-1) @ scaled.T
    absent = torch.zeros(len(named), scaled.shape[0] - wanted.shape[2], device=device)
    every = torch.ones(len(named), dtype=torch.bool, device=device)
    patch = spread(named, torch.cat([wanted[asked], absent], dim=1), every)
    told = _told(patches[on_object], on_object.nonzero()[:, 0], number[on_object], batch, chosen, said)
    return {
        "patch": patch,
        "told": told,
        "grouping": _grouping(attention[:, 1:, 1:], number, sure, on_object, on_ground),
    }


def _told(patches: Tensor, places: Tensor, numbers: Tensor, batch: Batch, chosen: Texts, said: Tensor) -> Tensor:
    """Return how badly patches [p, E] find what is true of their objects: number `numbers` in plain image `places`."""
    clean = batch.clean
    answers = [chosen.answers[clean[place], one] for place, one in zip(places.tolist(), numbers.tolist(), strict=True)]
    if not answers or not chosen.expressions:
        return patches.sum() * 0
    true = torch.tensor([[answer is True for answer in row] for row in answers], device=patches.device)
    unsure = torch.tensor([[answer is None for answer in row] for row in answers], device=patches.device)
    found_in = (F.normalize(patches.float(), dim=-1) @ said.T).masked_fill(unsure, NEVER)
    return spread(found_in, true.float(), true.any(dim=1))


def _grouping(attention: Tensor, number: Tensor, sure: Tensor, on_object: Tensor, on_ground: Tensor) -> Tensor:
    """Return how much patches attend to others than those of the same object: attention [c, n, n]."""
    others = attention * (1 - torch.eye(attention.shape[1], device=attention.device))
    others = others / others.sum(dim=2, keepdim=True).clamp(min=1e-6)
    same = ((number[:, :, None] == number[:, None, :]) & sure[:, None, :]).float()
    missed = -torch.log((others * same).sum(dim=2) + 1e-3)
    parts = [weight * missed[where].mean() for weight, where in ((1.0, on_object), (0.3, on_ground)) if where.any()]
    return torch.stack(parts).sum() if parts else attention.sum() * 0


def _share(right: Tensor) -> float:
    return float(right.float().mean()) if len(right) else float("nan")
