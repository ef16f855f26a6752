"""Masks as closed outlines, and back: for formats and tools that know polygons only."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Outline = npt.NDArray[np.int32]
"""[N, 2] pixel centres (x, y), N >= 1, closed: the last point is joined to the first."""


def outlines(mask: Mask, tolerance: float = 0.0) -> list[Outline]:
    """Return an outline for each part of a mask, bool [H, W]; parts touch at corners, too.

    The outline runs through the outermost pixels of its part. A hole is cut in: a way there, around it through the
    pixels of the part, and the same way back. `fill` with tolerance 0 gives back the mask, but for single pixels where
    such a way is oblique. With `tolerance` > 0 points are left out that are at most so many pixels off the line
    without them.
    """
    contours, tree = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings: dict[int, list[Outline]] = {}  # of each part: its outline first, then its holes
    for number, (contour, link) in enumerate(zip(contours, tree[0] if contours else (), strict=True)):
        parent = int(link[3])
        rings.setdefault(number if parent < 0 else parent, []).insert(
            0 if parent < 0 else 1, np.asarray(contour[:, 0], np.int32)
        )
    joined = [_joined(of_part) if len(of_part) > 1 else of_part[0] for of_part in rings.values()]
    return [np.asarray(cv2.approxPolyDP(one, tolerance, True)[:, 0], np.int32) if tolerance else one for one in joined]


def fill(outline: Outline, height: int, width: int) -> Mask:
    """Return the mask [H, W] of an outline by the even-odd rule, border included, as readers of YOLO's format do."""
    canvas = np.zeros((height, width), np.uint8)
    cv2.fillPoly(canvas, [np.asarray(outline, np.int32)], 1)
    return canvas.astype(bool)


def _joined(rings: list[Outline]) -> Outline:
    """Join an outline and the holes in it to one, by the shortest ways that connect all: none crosses another hole."""
    points = np.concatenate(rings)
    sizes = np.array([len(ring) for ring in rings])
    ring_of = np.repeat(np.arange(len(rings)), sizes)
    following = np.arange(1, len(points) + 1)
    following[sizes.cumsum() - 1] -= sizes
    path, follows = list(points), following.tolist()
    for door, entry in _ways(points, ring_of):
        # From the door into the hole, around it, and from its entry back: both ends are passed twice.
        entry_again, door_again = len(path), len(path) + 1
        path += [points[entry], points[door]]
        follows += [follows[entry], follows[door]]
        follows[door], follows[entry] = entry_again, door_again
    order, at = [], 0
    for _ in path:
        order.append(at)
        at = follows[at]
    return np.array([path[i] for i in order], np.int32)


def _ways(points: Outline, ring_of: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """The shortest ways that connect all rings, from the first one outwards, each as two of the points by index.

    They are among the edges of a Delaunay triangulation. Rings that share a pixel are connected there.
    """
    from scipy.sparse import coo_array  # slow to import, and rarely needed
    from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
    from scipy.spatial import Delaunay

    _, first, same = np.unique(points, axis=0, return_index=True, return_inverse=True)
    corners = first[Delaunay(points[first]).simplices]
    pairs = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
    pairs = np.concatenate([pairs, np.stack([np.arange(len(points)), first[same.ravel()]], axis=1)])
    pairs = pairs[ring_of[pairs[:, 0]] != ring_of[pairs[:, 1]]]
    lengths = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    pairs = pairs[np.argsort(lengths, kind="stable")]
    ends = np.sort(ring_of[pairs], axis=1)
    _, shortest = np.unique(ends, axis=0, return_index=True)
    count = int(ring_of[-1]) + 1
    rank = shortest + 1.0  # as good as lengths for a shortest tree, and never 0
    graph = coo_array((rank, (ends[shortest, 0], ends[shortest, 1])), shape=(count, count)).tocsr()
    tree = minimum_spanning_tree(graph)
    tree = tree + tree.T
    order, above = breadth_first_order(tree, 0, directed=False)
    for ring in order[1:]:
        one, other = pairs[round(float(tree[above[ring], ring])) - 1]
        yield (int(one), int(other)) if ring_of[other] == ring else (int(other), int(one))
