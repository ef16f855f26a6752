"""What calibration proposes for a project, kept in Redis until somebody applies it.

Applied means: written into the labeling config through Label Studio's API, where people see it. So a model version
stays a function of the config, and what was applied can be taken back there by hand. Imports no numpy.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from redis import Redis

from backend import store
from backend.labeling.edit import with_attributes
from backend.labeling.parsing import LabelingConfig, parse_config
from backend.settings import Settings
from backend.studio.client import Studio


class ProposalError(Exception):
    """There is nothing to apply, or it no longer fits; the message says what to do."""


@dataclass(frozen=True)
class Outcome:
    """How thresholds fare on held-out tasks.

    before, after: mIoU, None where nothing was drawn or submitted. sure: share of bootstrap resamples of the tasks in
    which `after` is higher, of those in which both are known. missed_before, missed: mean share of a task's submitted
    labels that are not drawn, None where none was submitted.
    """

    tasks: int
    before: float | None
    after: float | None
    sure: float | None
    missed_before: float | None
    missed: float | None

    @property
    def gain(self) -> float | None:
        """By how much the mIoU rises."""
        return None if self.before is None or self.after is None else self.after - self.before


@dataclass(frozen=True)
class Proposal:
    """What calibration found: thresholds by label and whether they are worth a change, with the reason in words.

    eta, lambda_: other settings of the method, where those were tried; None: as they are. memory: what `car_memory` is
    to be, where one was made. fitted: tasks that chose.
    """

    accepted: bool
    reason: str
    thresholds: Mapping[str, float]
    fitted: int = 0
    held_out: Outcome | None = None
    eta: float | None = None
    lambda_: float | None = None
    memory: str | None = None


@dataclass(frozen=True)
class Kept:
    """A proposal as it is kept: for which model version of a project, and when it was made (seconds since 1970).

    asked: somebody asked for it; the courier's own do not replace it while it may still be applied.
    """

    project: int
    version: str
    made: float
    proposal: Proposal
    asked: bool = False

    def waits(self, version: str) -> bool:
        """Whether it was asked for and may be applied to this version."""
        return self.asked and self.proposal.accepted and self.version == version


def keep(redis: Redis, project: int, version: str, proposal: Proposal, asked: bool = False) -> Kept:
    """Keep a project's newest proposal, accepted or not."""
    kept = Kept(project, version, time.time(), proposal, asked)
    redis.set(store.calibration_key(project), json.dumps(asdict(kept)))
    return kept


def kept(redis: Redis, project: int) -> Kept | None:
    """A project's newest proposal, None when there is none."""
    data = redis.get(store.calibration_key(project))
    if data is None:
        return None
    found = json.loads(data)
    proposal = found["proposal"]
    if proposal["held_out"] is not None:
        proposal["held_out"] = Outcome(**proposal["held_out"])
    return Kept(**{**found, "proposal": Proposal(**proposal)})


def floors(config: LabelingConfig) -> dict[str, float]:
    """The thresholds of a config by the name that Label Studio stores, for the labels that have one."""
    by_value = config.thresholds()
    return {label.name: by_value[label.value] for label in config.labels if label.value in by_value}


def applied(xml: str, proposal: Proposal, default_preset: str) -> str:
    """The labeling config with a proposal written into it. Raises ConfigError for a config that cannot be served."""
    values = {label.name: label.value for label in parse_config(xml, default_preset).labels}
    labels = {
        values[name]: {"model_score_threshold": f"{threshold:g}"}
        for name, threshold in proposal.thresholds.items()
        if name in values
    }
    return with_attributes(xml, labels, control_attributes(proposal))


def control_attributes(proposal: Proposal) -> dict[str, str]:
    """What a proposal writes into the control: attribute -> value."""
    method = {"car_eta": proposal.eta, "car_lambda": proposal.lambda_}
    found = {name: f"{value:g}" for name, value in method.items() if value is not None}
    return found | ({"car_memory": proposal.memory} if proposal.memory else {})


def apply(redis: Redis, settings: Settings, studio: Studio, project: int) -> Kept:
    """Write a project's accepted proposal into its labeling config, and forget it.

    Raises:
        ProposalError: there is none, it was not accepted, or the config has changed since it was made.
        StudioError: Label Studio refused, or does not answer.
    """
    found = kept(redis, project)
    if found is None:
        raise ProposalError(
            f"There is no proposal for project {project}. `python -m backend corrections --project {project} "
            "--calibrate` makes one."
        )
    if not found.proposal.accepted:
        raise ProposalError(f"Nothing is applied to project {project}: {found.proposal.reason}")
    shown = studio.project(project)
    if shown is None:
        raise ProposalError(f"Label Studio has no project {project}.")
    xml = shown["label_config"]
    if parse_config(xml, settings.car_preset).version(settings.car_weights) != found.version:
        raise ProposalError(
            f"The labeling config of project {project} has changed since the proposal was made; calibrate again."
        )
    studio.update_project(project, label_config=applied(xml, found.proposal, settings.car_preset))
    redis.delete(store.calibration_key(project))
    return found
