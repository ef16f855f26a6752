"""The dense CRF that draws masks along the image's edges (Kraehenbuehl and Koltun; CaR, Section 3.4)."""

import numpy as np
import pydensecrf.densecrf as dcrf
from numpy.typing import NDArray

from model.presets import Preset

MEAN_BGR = (104.008, 116.669, 122.675)


def refine(image: NDArray[np.uint8], maps: NDArray[np.float32], preset: Preset) -> NDArray[np.float32]:
    """Return the marginals [1 + K, H, W] of the background and of K labels, given soft maps [K, H, W] in 0..1.

    Kernels are measured in pixels of `image` [H, W, 3] RGB. The unaries are not normalised to sum 1, as released.
    """
    unary = with_background(maps, preset.background_power)
    channels, height, width = unary.shape
    field = dcrf.DenseCRF2D(width, height, channels)
    field.setUnaryEnergy(np.ascontiguousarray(-np.log(unary.clip(1e-5, 1)).reshape(channels, -1)))
    field.addPairwiseGaussian(sxy=preset.crf_smooth_sigma, compat=preset.crf_smooth_weight)
    field.addPairwiseBilateral(
        sxy=preset.crf_position_sigma,
        srgb=preset.crf_color_sigma,
        rgbim=wrapped(image) if preset.crf_image == "wrapped" else np.require(image, requirements=("C", "W")),
        compat=preset.crf_color_weight,
    )
    return np.array(field.inference(preset.crf_steps), np.float32).reshape(channels, height, width)


def with_background(maps: NDArray[np.float32], power: float) -> NDArray[np.float32]:
    """Put the background's probability, (1 - largest map) to a power, before the maps [K, H, W]: [1 + K, H, W]."""
    background = (1 - maps.max(axis=0, initial=0)) ** np.float32(power)
    return np.concatenate([background[None], maps])


def wrapped(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image as the released code shows it to the CRF: BGR less the mean, in bytes, negatives wrapped."""
    centred = image[..., ::-1].astype(np.float32) - np.array(MEAN_BGR, np.float32)
    return np.ascontiguousarray(np.trunc(centred).astype(np.int16).astype(np.uint8))
