"""What the demo CLIP is taught about the red circle: which patches lie in it, and that the class token looks there.

A thin line says nothing about the patches in it that they could see for themselves, and names alone did not teach it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from model.demo.batches import PATCH, Batch
from model.demo.towers import Look


def probe(model: Any) -> torch.nn.Linear:
    """Return a new probe: what reads from the state of a patch whether it lies in a circle. Only training needs it."""
    return torch.nn.Linear(model.visual.transformer.width, 1)


def circled(seen: Look, batch: Batch, reads: torch.nn.Linear) -> dict[str, Tensor]:
    """Return the losses of the images that nothing but a circle prompts.

    encircled: cross-entropy of what the probe reads in every block between the first and the last. pointing: how much
    the class token attends to patches outside the circle in the last two blocks.
    """
    rows = [row for row, sample in enumerate(batch.samples) if sample.encircled is not None]
    if not rows:
        return {"encircled": reads.weight.sum() * 0, "pointing": seen.glance.sum() * 0}
    masks = torch.stack([torch.from_numpy(batch.samples[row].encircled) for row in rows])
    inside = F.avg_pool2d(masks[:, None].to(seen.states.device, torch.float32), PATCH).flatten(1)  # [c, n]
    told = reads(seen.states[rows].float())[..., 0]  # [c, blocks, n]
    glance = seen.glance[rows]
    share = (glance * inside[:, None]).sum(dim=2) / glance.sum(dim=2)
    return {
        "encircled": F.binary_cross_entropy_with_logits(told, inside[:, None].expand_as(told)),
        "pointing": -torch.log(share + 1e-3).mean(),
    }
