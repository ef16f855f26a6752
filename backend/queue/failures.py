"""Kinds of failure: how they are counted, and what helps."""

from __future__ import annotations

from enum import StrEnum


class Failure(StrEnum):
    """Why a job was given up, as `/metrics` and the status page count it."""

    IMAGE = "image"
    """The image is refused: gone, not an image, too large, or at an address that must not be read."""
    NETWORK = "network"
    """Label Studio or the image's host did not answer, however often it was tried."""
    STUDIO = "studio"
    """Label Studio refuses us: the token, or the rights of its user."""
    RELEASE = "release"
    """Worker and web process would write different model versions."""
    DEVICE = "device"
    """The GPU failed, or its memory did not suffice."""
    TIMEOUT = "timeout"
    """The image took longer than CAR_JOB_TIMEOUT."""
    DIED = "died"
    """The worker died over it."""
    OTHER = "other"
    """Anything else: a fault of ours."""


_FIXES = {
    Failure.IMAGE: "Mend the image or its address, or raise the limit that the reason names",
    Failure.NETWORK: "See that the worker reaches that address (in a container, localhost is the container itself)",
    Failure.STUDIO: "Run `python -m backend doctor`: it tells whether the token or its user's rights are at fault",
    Failure.RELEASE: "Restart web process, workers and courier from one release, with equal CAR_PRESET and CAR_WEIGHTS",
    Failure.DEVICE: "Free memory on the GPU, or choose another with CAR_DEVICE; see the worker's log",
    Failure.TIMEOUT: "Raise CAR_JOB_TIMEOUT, make the image smaller, or look for fewer labels at once",
    Failure.DIED: "Look at the end of the worker's log and at the host's memory (dmesg names what was killed for it)",
    Failure.OTHER: "See the worker's log for the whole story, and report it",
}


def fix(kind: str) -> str:
    """What helps against this kind of failure; an unknown one (of another release) counts as `other`."""
    return _FIXES[Failure(kind) if kind in list(Failure) else Failure.OTHER]


def requeue_command(project: int | None, task: int | None) -> str:
    """What to run when that is done."""
    named = [f" --{name} {number}" for name, number in (("project", project), ("task", task)) if number is not None]
    return "python -m backend requeue" + "".join(named)
