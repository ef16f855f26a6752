"""The contour accuracy F of DAVIS (Perazzi et al., CVPR 2016; values of the official evaluation code)."""

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
TOLERANCE = 0.008  # of the image's diagonal


def contour(mask: Mask) -> Mask:
    """Return the pixels [H, W] that differ from the one to the right, below, or both: a contour one pixel wide.

    A pixel on the other side of the contour is marked where the mask lies to its right or below. Along the last row and
    column only neighbours inside the image count.
    """
    right, below, both = mask.copy(), mask.copy(), mask.copy()
    right[:, :-1] = mask[:, 1:]
    below[:-1] = mask[1:]
    both[:-1, :-1] = mask[1:, 1:]
    found = (mask ^ right) | (mask ^ below)
    found[:-1, :-1] |= (mask ^ both)[:-1, :-1]
    return np.asarray(found)


def boundary_f(truth: Mask, prediction: Mask, tolerance: float = TOLERANCE) -> float:
    """Return F of two masks [H, W]: how well their contours meet, within `tolerance` of the diagonal, rounded up.

    The harmonic mean of the shares of contour pixels that lie within the tolerance of the other contour. 1 if neither
    mask has a contour, 0 if only one has.
    """
    radius = int(np.ceil(tolerance * np.hypot(truth.shape[0], truth.shape[1])))
    real, drawn = contour(truth), contour(prediction)
    if not real.any() or not drawn.any():
        return float(real.any() == drawn.any())
    precision = (drawn & _grown(real, radius)).sum() / drawn.sum()
    recall = (real & _grown(drawn, radius)).sum() / real.sum()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def _grown(mask: Mask, radius: int) -> Mask:
    """Return what lies within `radius` pixels of the mask."""
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(~mask) <= radius)
