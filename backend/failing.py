"""What goes wrong in a worker: which errors may pass, which cannot, and what kind of failure each is."""

from __future__ import annotations

from rq.timeouts import BaseTimeoutException

from backend.images.fetcher import ImageError, ImageUnavailable
from backend.queue.failures import Failure
from backend.studio.client import StudioError, StudioUnavailable


class VersionMismatch(Exception):
    """This worker would not produce what the job's model version promises (another release, other weights)."""


class Stopped(SystemExit):
    """The second SIGTERM reached a worker that was at an image. RQ takes any exception for the job's own failure."""


UNREACHABLE = (ImageUnavailable, StudioUnavailable)
PASSING = (*UNREACHABLE, VersionMismatch, Stopped)
"""What may be over when the job is tried again; two releases may run side by side while one replaces the other."""
PERMANENT = (ImageError, ValueError)


def kind_of(error: BaseException) -> Failure:
    """What kind of failure this error is."""
    kinds: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Failure], ...] = (
        (VersionMismatch, Failure.RELEASE),
        (UNREACHABLE, Failure.NETWORK),
        (StudioError, Failure.STUDIO),
        (BaseTimeoutException, Failure.TIMEOUT),
        (PERMANENT, Failure.IMAGE),
    )
    if is_device_error(error):
        return Failure.DEVICE
    return next((kind for errors, kind in kinds if isinstance(error, errors)), Failure.OTHER)


def is_device_error(error: BaseException) -> bool:
    """Whether the GPU failed, rather than the image: out of memory, or any error of CUDA."""
    return type(error).__name__ in ("OutOfMemoryError", "AcceleratorError") or "CUDA error" in str(error)
