"""A memory of corrected regions: what CLIP sees of a mask that a person left standing, and what it is called.

A memory is one file (safetensors: numbers and one JSON text, nothing that runs), named in the setting `memory`. What is
in it only means something to the CLIP and the visual prompts that it was made with, so both are written into it, and
others refuse it. How it is used: `model.recall`. Imports without torch.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as tensors_of
from safetensors.numpy import save as bytes_of

from model.files import replacing
from model.settings import Preset

NOTHING = ""
"""The label of a region that was predicted and deleted: none of the labels."""
SUFFIX = ".safetensors"
DIGITS = 16
"""Hex digits of a file's SHA-256 that stand for it."""
FORMAT = 1
MAKE = "Make it anew: python -m backend corrections --project ID --memory FILE."
_LOOK = ("prompts", "gray_weights", "ellipse", "classifier_view", "object_margin", "classifier_last_block", "positions")


class MemoryFileError(RuntimeError):
    """A memory cannot be read or used; the message says why, and what to do."""


@dataclass(frozen=True)
class Origin:
    """What looks were made with: the fingerprints of both towers' weights, and the settings of the visual prompts."""

    proposals: str
    classifier: str
    look: Mapping[str, Any]


@dataclass(frozen=True)
class Strength:
    """How much a memory may say: its share of a verdict, 0..1, of which nothing is left for a region less like all that
    is remembered than `reach`, and all for one that is more like it than `near` (both are cosines).
    """

    share: float
    reach: float
    near: float


@dataclass(frozen=True)
class Memory:
    """M regions: their labels (`NOTHING` for a deleted prediction), their tasks [M], and how they look, L2-normalised.

    scored: float32 [M, E], to the classifier's CLIP; drawn: [M, E'], to that of the proposals (one CLIP: the same).
    """

    origin: Origin
    strength: Strength
    labels: tuple[str, ...]
    tasks: NDArray[np.int64]
    scored: NDArray[np.float32]
    drawn: NDArray[np.float32]

    def of_tasks(self, tasks: Iterable[int]) -> "Memory":
        """Keep the regions of some tasks only."""
        return self._only(np.isin(self.tasks, list(tasks)))

    def forget(self, *tasks: int) -> "Memory":
        """Forget tasks: scores are then, to the bit, what they would be had these never been remembered."""
        return self._only(~np.isin(self.tasks, tasks))

    def _only(self, rows: NDArray[np.bool_]) -> "Memory":
        labels = tuple(label for label, kept in zip(self.labels, rows.tolist(), strict=True) if kept)
        return replace(self, labels=labels, tasks=self.tasks[rows], scored=self.scored[rows], drawn=self.drawn[rows])

    def to_bytes(self) -> bytes:
        """Return the file's content: equal memories have equal bytes."""
        head = {
            "format": FORMAT,
            "origin": asdict(self.origin),
            "strength": asdict(self.strength),
            "labels": list(self.labels),
        }
        arrays = {"tasks": self.tasks.astype(np.int64), "scored": self.scored}
        if self.origin.proposals != self.origin.classifier:
            arrays["drawn"] = self.drawn
        # one entry of metadata only: safetensors writes several in random order
        return bytes(bytes_of(arrays, {"memory": json.dumps(head, sort_keys=True)}))

    @classmethod
    def from_bytes(cls, content: bytes) -> "Memory":
        """Inverse of `to_bytes`. Raises ValueError for anything else."""
        try:
            arrays = tensors_of(content)
            length = int.from_bytes(content[:8], "little")
            head = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["memory"])
            if head["format"] != FORMAT:
                raise ValueError(f"it has the format {head['format']}, this version reads {FORMAT}")
            scored = arrays["scored"]
            found = cls(
                Origin(**head["origin"]),
                Strength(**head["strength"]),
                tuple(map(str, head["labels"])),
                arrays["tasks"],
                scored,
                arrays.get("drawn", scored),
            )
        except (SafetensorError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it is no memory ({type(error).__name__}: {error})") from None
        found._check()
        return found

    def _check(self) -> None:
        count = len(self.labels)
        for name, dtype, shape in (("tasks", np.int64, 1), ("scored", np.float32, 2), ("drawn", np.float32, 2)):
            array = getattr(self, name)
            if array.dtype != dtype or array.ndim != shape or len(array) != count or not np.isfinite(array).all():
                raise ValueError(f"its array {name!r} does not fit its {count} labels")
        if not (0 <= self.strength.share <= 1 and -1 <= self.strength.reach < self.strength.near):
            raise ValueError(f"its strength {self.strength} cannot be")


def look_of(preset: Preset) -> dict[str, Any]:
    """Return the settings that decide what CLIP gets to see of a mask, as plain JSON values."""
    return {name: list(v) if isinstance(v := getattr(preset, name), tuple) else v for name in _LOOK}


def digest(content: bytes) -> str:
    """Return the hex digits that stand for a file in a setting, and so in every version made with it."""
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def read(setting: str) -> Memory:
    """Read a memory from `FILE` or `FILE#DIGEST`, as the setting `memory` names it. Raises MemoryFileError."""
    name, _, wanted = setting.partition("#")
    path = Path(name)
    try:
        content = path.read_bytes()
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise MemoryFileError(f"The memory {path} cannot be read ({why}). Put the file there. {MAKE}") from None
    actual = hashlib.sha256(content).hexdigest()
    if wanted and not (re.fullmatch(r"[0-9a-f]{8,64}", wanted) and actual.startswith(wanted)):
        raise MemoryFileError(
            f"The memory {path} has the SHA-256 {digest(content)}..., {wanted} is asked for. Put that file there, or "
            f"name this one: {name}#{digest(content)}."
        )
    try:
        return Memory.from_bytes(content)
    except ValueError as error:
        raise MemoryFileError(f"The memory {path} is damaged or something else: {error}. {MAKE}") from None


def write(memory: Memory, path: Path) -> str:
    """Write a memory, whole or not at all; return its digest."""
    content = memory.to_bytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_bytes(content)
    return digest(content)
