"""Boxes around the connected parts of maps, all maps at once and wherever they are, CPU or GPU."""

import torch
import torch.nn.functional as F
from torch import Tensor

ROUNDS = 8  # between looks at whether the parts have been found, which a GPU would have to wait for


def box_masks(maps: Tensor, share: float, edge: str) -> Tensor:
    """Return for maps [R, h, w] in 0..1 the boxes around all connected parts above `share` of the maximum: bool.

    A share of 1 or more, which nothing exceeds, is lowered by tenths. `edge` `cut`: boxes never reach the last row and
    column.
    """
    while share >= 1:
        share -= 0.1
    gray = (maps * 255).int()  # in levels, as an image has them
    peak = gray.amax(dim=(1, 2), keepdim=True)
    return _filled(parts(gray > (share * peak.double()).floor()), edge)


def parts(above: Tensor) -> Tensor:
    """Number the connected parts, corners included, of masks [R, h, w]: each cell's is its part's first cell.

    Cells are counted row by row; h * w stands for those outside. Each round takes the least number around a cell, then
    that cell's own number: a part of n cells takes some log(n) rounds, however it winds.
    """
    count, height, width = above.shape
    outside = height * width
    numbers = torch.arange(outside, device=above.device).view(1, height, width).expand(count, -1, -1)
    numbers = numbers.masked_fill(~above, outside)
    while True:
        before = numbers
        for _ in range(ROUNDS):
            least = -F.max_pool2d(-numbers.float(), 3, stride=1, padding=1)
            numbers = least.long().masked_fill(~above, outside)
            flat = F.pad(numbers.flatten(1), (0, 1), value=outside)
            numbers = flat.gather(1, flat)[:, :-1].view_as(numbers)
        if torch.equal(numbers, before):
            return numbers


def _filled(numbers: Tensor, edge: str) -> Tensor:
    """Return the union of the boxes of numbered parts [R, h, w]: bool [R, h, w]."""
    count, height, width = numbers.shape
    flat, cells = numbers.flatten(1), torch.arange(height * width, device=numbers.device)
    rows, columns = (cells // width).expand(count, -1), (cells % width).expand(count, -1)

    def extreme(places: Tensor, which: str) -> Tensor:
        """Return of each part the least or largest of its cells' places, at its first cell: [R, h * w]."""
        start = torch.zeros(count, height * width + 1, dtype=torch.long, device=numbers.device)
        return start.scatter_reduce(1, flat, places, which, include_self=False)[:, :-1]

    last_row, last_column = (height - 1, width - 1) if edge == "cut" else (height, width)
    top, left = extreme(rows, "amin"), extreme(columns, "amin")
    bottom = (extreme(rows, "amax") + 1).clamp(max=last_row)
    right = (extreme(columns, "amax") + 1).clamp(max=last_column)
    # Count up where a box begins and down where it ends: summed along both sides, boxes are where the sum is not 0.
    begun = (flat == cells).int()
    steps = torch.zeros(count, (height + 1) * (width + 1), dtype=torch.int32, device=numbers.device)
    for y, x, sign in ((top, left, 1), (top, right, -1), (bottom, left, -1), (bottom, right, 1)):
        steps.scatter_add_(1, y * (width + 1) + x, sign * begun)
    return steps.view(count, height + 1, width + 1).cumsum(1).cumsum(2)[:, :height, :width] > 0
