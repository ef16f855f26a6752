"""What annotators changed of our predictions: the records, and where they are kept.

A webhook only says that somebody touched a task. The courier then reads the task's annotations from Label Studio and
replaces what is kept of it (`corrector.py`), so a webhook that comes twice, late or forged does no harm, and all of it
can be rebuilt. Kept per project in Redis, compressed, the newest `CAR_CORRECTION_LIMIT` tasks.

Annotators never see what was dropped, so the scores of ALL labels are kept with each prediction, too (`ScoreBook`).

Imports neither numpy nor OpenCV: the web process reads here.
"""

from __future__ import annotations

import json
import re
import struct
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, cast

from redis import Redis

from backend import store
from backend.settings import Settings
from backend.store import text

UNTOUCHED_IOU = 0.999
"""The browser encodes a mask anew when it is submitted; from this IoU on nobody has touched it."""

OUTLINE = 160
"""Units of the longer side of an image in an outline."""

REASON = 200
"""Letters at most of why an annotation is not compared."""

_EARLIER = "an earlier release, which knew brush regions only, found none in it; --rebuild compares it anew"

OTHER = "other"
"""The fingerprint of a correction whose images are not the ones that the task shows."""

_OURS = re.compile(r"car-.+-[0-9a-f]{8}-[0-9a-f]{8}")


def is_ours(version: object) -> bool:
    """Whether a prediction's `model_version` is one that this backend gives."""
    return isinstance(version, str) and _OURS.fullmatch(version) is not None


class Kind(StrEnum):
    """What became of one label in one task."""

    UNTOUCHED = "untouched"
    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True)
class Change:
    """One label of one task: what was predicted beside what was submitted, in pixels.

    label: as Label Studio stores it (its alias, if it has one). At least one pixel is in one of both; common: pixels in
    both. boundary_f: agreement of the edges, 0..1, see `comparison.py`. outlines: both masks as SVG paths for the page,
    `OUTLINE` units wide or high, empty where the mask is, or where nothing was touched.
    """

    label: str
    predicted: int
    submitted: int
    common: int
    boundary_f: float
    outlines: tuple[str, str] = ("", "")

    @property
    def union(self) -> int:
        """Pixels in one of both."""
        return self.predicted + self.submitted - self.common

    @property
    def iou(self) -> float:
        """Intersection over union, 0..1."""
        return self.common / self.union

    @property
    def kind(self) -> Kind:
        """What the annotator did."""
        if not self.submitted:
            return Kind.REMOVED
        if not self.predicted:
            return Kind.ADDED
        return Kind.UNTOUCHED if self.iou >= UNTOUCHED_IOU else Kind.CHANGED


@dataclass(frozen=True)
class Correction:
    """One submitted annotation beside our prediction `version` of its task.

    submitted: seconds since 1970. seconds: how long the annotator had the task open (`lead_time`), None if unknown.
    size: (width, height) of the image, (0, 0) if there is no region. scores: all labels' scores, also of those that
    were dropped; empty when they are not known any more. not_compared: why the two could not be compared, "" where they
    were; such a record is counted, and left out of every figure. fingerprint: of the job for the images that were
    annotated (`backend.queue.job.Job`), "" where it is not known, `OTHER` where the task shows others now.
    """

    project: int
    task: int
    annotation: int
    version: str
    submitted: float
    seconds: float | None
    size: tuple[int, int]
    changes: tuple[Change, ...]
    scores: Mapping[str, float] = field(default_factory=dict)
    not_compared: str = ""
    fingerprint: str = ""

    @property
    def accepted(self) -> bool | None:
        """Whether the prediction was submitted as it was, an empty one too; None where they were not compared."""
        if self.not_compared:
            return None
        return all(change.kind is Kind.UNTOUCHED for change in self.changes)

    @property
    def iou(self) -> float | None:
        """Mean IoU of the labels that were predicted or submitted; None when there is none."""
        return sum(change.iou for change in self.changes) / len(self.changes) if self.changes else None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Correction:
        """Inverse of `dataclasses.asdict`, also after a journey through JSON.

        A record of an earlier release without any change is one that was not compared: other shapes than brushes were
        not looked at then.
        """
        changes = tuple(Change(**{**change, "outlines": tuple(change["outlines"])}) for change in data["changes"])
        why = data.get("not_compared", "" if changes else _EARLIER)
        return cls(**{**data, "changes": changes, "size": tuple(data["size"]), "not_compared": why})


def compared(corrections: Iterable[Correction]) -> list[Correction]:
    """Those of which figures are made, in their order."""
    return [one for one in corrections if not one.not_compared]


class ScoreBook:
    """The scores of all labels, with each prediction: two bytes per label, three digits exact.

    One hash per project and model version, forgotten `CAR_CORRECTION_DAYS` after the version's last prediction. (A
    correction takes its scores along.) A task's scores begin with the fingerprint of the job that they come from: its
    images may have been replaced since.
    """

    def __init__(self, redis: Redis, settings: Settings):
        self.redis = redis
        self.keep_seconds = int(settings.car_correction_days * 86_400)

    def note(self, project: int, task: int, version: str, fingerprint: str, scores: Mapping[str, float]) -> None:
        """Keep a task's scores by label; the labels of a version are always the same ones."""
        key = store.scores_key(project, version)
        packed = bytes.fromhex(fingerprint) + struct.pack(f"<{len(scores)}e", *scores.values())
        with self.redis.pipeline() as pipe:
            pipe.hset(key, mapping={"labels": json.dumps(list(scores)), str(task): packed})
            pipe.expire(key, self.keep_seconds)
            pipe.execute()

    def scores(self, project: int, task: int, version: str, fingerprint: str) -> dict[str, float]:
        """A task's scores by label, {} when they are not known (any more) for a job of this fingerprint."""
        labels, packed = cast(
            list[bytes | None], self.redis.hmget(store.scores_key(project, version), ["labels", str(task)])
        )
        made_from = bytes.fromhex(fingerprint)
        if labels is None or packed is None or not packed.startswith(made_from):
            return {}
        names: list[str] = json.loads(labels)
        scores = struct.unpack(f"<{len(names)}e", packed[len(made_from) :])
        return {name: float(f"{score:.3g}") for name, score in zip(names, scores, strict=True)}


class Corrections:
    """The corrections of one Redis."""

    def __init__(self, redis: Redis, settings: Settings):
        self.redis = redis
        self.keep_seconds = int(settings.car_correction_days * 86_400)
        self.limit = settings.car_correction_limit

    # What to look at

    def look_at(self, project: int, tasks: Iterable[int]) -> None:
        """Have the courier compare these tasks; a task that waits already waits once."""
        due = {json.dumps([project, task]): time.time() for task in tasks}
        if due:
            self.redis.zadd(store.CORRECTIONS_DUE, cast(Any, due))

    def next_due(self) -> tuple[int, int] | None:
        """(project, task) that waits longest, None when none is due."""
        found = cast(list[bytes], self.redis.zrangebyscore(store.CORRECTIONS_DUE, 0, time.time(), start=0, num=1))
        return cast(tuple[int, int], tuple(json.loads(found[0]))) if found else None

    def done_with(self, project: int, task: int, asked: float) -> None:
        """A task was compared, as Label Studio had it at `asked`; a webhook that came since is still to be heeded."""
        member = json.dumps([project, task])
        if cast(float, self.redis.zscore(store.CORRECTIONS_DUE, member) or 0) <= asked:
            self.redis.zrem(store.CORRECTIONS_DUE, member)

    def postpone(self, project: int, task: int, seconds: float) -> None:
        """Look at a task later."""
        self.redis.zadd(store.CORRECTIONS_DUE, {json.dumps([project, task]): time.time() + seconds})

    # What is kept

    def replace(self, project: int, task: int, corrections: Sequence[Correction]) -> None:
        """Keep these as all that is known of a task; none forgets it."""
        known = self.of_task(project, task)
        names = store.corrections_key(project), store.corrected_key(project), store.annotations_key(project)
        kept, corrected, annotations = names
        with self.redis.pipeline() as pipe:
            if known:
                pipe.hdel(annotations, *(str(one.annotation) for one in known))
            if corrections:
                data = json.dumps([asdict(one) for one in corrections], separators=(",", ":"))
                pipe.hset(kept, str(task), zlib.compress(data.encode()))
                pipe.zadd(corrected, {str(task): max(one.submitted for one in corrections)})
                pipe.hset(annotations, mapping={str(one.annotation): task for one in corrections})
            else:
                pipe.hdel(kept, str(task))
                pipe.zrem(corrected, str(task))
            for name in names:
                pipe.expire(name, self.keep_seconds)
            pipe.execute()
        surplus = self.count(project) - self.limit
        for oldest in cast(list[bytes], self.redis.zrange(corrected, 0, surplus - 1)) if surplus > 0 else ():
            self.replace(project, int(oldest), ())

    def of_task(self, project: int, task: int) -> list[Correction]:
        """The corrections of one task."""
        return _unpack(self.redis.hget(store.corrections_key(project), str(task)))

    def task_of(self, project: int, annotation: int) -> int | None:
        """The task of an annotation whose correction is kept."""
        found = self.redis.hget(store.annotations_key(project), str(annotation))
        return int(found) if found else None

    def tasks(self, project: int) -> list[int]:
        """The tasks of which a correction is kept, by the time of their submission."""
        return [int(task) for task in cast(list[bytes], self.redis.zrange(store.corrected_key(project), 0, -1))]

    def count(self, project: int) -> int:
        """How many tasks of a project have a correction that is kept."""
        return int(self.redis.zcard(store.corrected_key(project)))

    def newest(self, project: int, limit: int | None = None) -> list[Correction]:
        """The corrections of the tasks submitted last (all without a limit), oldest first."""
        tasks = self.tasks(project)[-limit if limit else 0 :]
        if not tasks:
            return []
        found = cast(
            list[bytes | None], self.redis.hmget(store.corrections_key(project), [str(task) for task in tasks])
        )
        return sorted((one for data in found for one in _unpack(data)), key=lambda one: (one.submitted, one.annotation))

    def projects(self) -> list[int]:
        """The projects of which corrections are kept."""
        prefix = store.corrected_key(0)[:-1]
        return sorted(int(text(key)[len(prefix) :]) for key in self.redis.scan_iter(match=prefix + "*", count=1000))


def _unpack(data: object) -> list[Correction]:
    return [Correction.from_json(one) for one in json.loads(zlib.decompress(cast(bytes, data)))] if data else []
