"""Both towers of open_clip's CLIP for training: the same function, with what the losses need of the inside.

Attention is written out: in bfloat16 on a CPU it is twice as fast as the fused kernel at these sizes.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

GROUPING_BLOCKS = 3  # how many blocks before the last are taught to attend within an object


@dataclass(frozen=True)
class Look:
    """What the vision tower makes of images, all in the joint space, not normalised.

    image: [B, E]. patches: [B, n, E], each patch as if the class token attended to it alone in the last block. pooled:
    [B, E], mean of the patch tokens. earlier: [B, E], the class token before the last block. attention: [B, 1 + n,
    1 + n], averaged over heads and blocks. glance: [B, 2, n], the class token's attention to the patches in each of the
    last two blocks, averaged over heads. states: [B, blocks, n, width], the patches' own tokens, not yet in the joint
    space, after each block but the first and the last.
    """

    image: Tensor
    patches: Tensor
    pooled: Tensor
    earlier: Tensor
    attention: Tensor
    glance: Tensor
    states: Tensor


def look(model: Any, pixels: Tensor, positions: Tensor | None = None) -> Look:
    """Run images [B, 3, S, S]. positions: [B, n], which places of the grid the patches have; all, if None."""
    visual = model.visual
    x = visual.conv1(pixels).flatten(2).transpose(1, 2)
    places = visual.positional_embedding
    at = places[1:][positions] if positions is not None else places[1:][None]
    first = (visual.class_embedding + places[0]).expand(len(x), 1, -1)
    x = visual.ln_pre(torch.cat([first.to(x.dtype), x + at.to(x.dtype)], dim=1))
    blocks = list(visual.transformer.resblocks)
    maps, glances, states = [], [], []
    for number, block in enumerate(blocks):
        last = number == len(blocks) - 1
        entered = x
        mixed, weights = attend(block.attn, block.ln_1(x))
        if number >= len(blocks) - 1 - GROUPING_BLOCKS:
            maps.append(weights.mean(dim=1))
        if number >= len(blocks) - 2:
            glances.append(weights[:, :, 0, 1:].mean(dim=1))
        x = x + mixed
        if last:
            x = torch.cat([x, entered[:, :1].detach() + values(block.attn, block.ln_1(entered)[:, 1:])], dim=1)
        x = x + block.mlp(block.ln_2(x))
        if number and not last:
            states.append(x[:, 1:])
    count = entered.shape[1] - 1
    x = visual.ln_post(x)
    return Look(
        image=x[:, 0] @ visual.proj,
        patches=x[:, 1 + count :] @ visual.proj,
        pooled=x[:, 1 : 1 + count].mean(dim=1) @ visual.proj,
        earlier=visual.ln_post(entered[:, 0]) @ visual.proj,
        attention=torch.stack(maps).float().mean(dim=0),
        glance=torch.stack(glances, dim=1).float(),
        states=torch.stack(states, dim=1),
    )


def read(model: Any, tokens: Tensor) -> Tensor:
    """Return the embeddings [T, E] of texts [T, context], not normalised; what follows the longest text is left out."""
    ends = tokens.argmax(dim=1)
    length = int(ends.max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    mask = model.attn_mask[:length, :length]
    for block in model.transformer.resblocks:
        x = x + attend(block.attn, block.ln_1(x), mask)[0]
        x = x + block.mlp(block.ln_2(x))
    last = model.ln_final(x)[torch.arange(len(x), device=x.device), ends]
    joint: Tensor = last @ model.text_projection
    return joint


def attend(attention: Any, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return what self-attention adds [B, N, D], and its weights [B, heads, N, N]."""
    batch, count, width = x.shape
    heads = attention.num_heads
    mixed = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = mixed.view(batch, count, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    logits = (query * (width // heads) ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        logits = logits + mask.to(logits.dtype)
    weights = logits.softmax(dim=-1, dtype=logits.dtype)
    out = (weights @ value).transpose(1, 2).reshape(batch, count, width)
    return F.linear(out, attention.out_proj.weight, attention.out_proj.bias), weights


def values(attention: Any, x: Tensor) -> Tensor:
    """Return what each token [B, N, D] would pass on to one that attends to it alone."""
    width = x.shape[-1]
    value = F.linear(x, attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :])
    return F.linear(value, attention.out_proj.weight, attention.out_proj.bias)
