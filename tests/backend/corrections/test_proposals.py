from __future__ import annotations

import pytest
from redis import Redis

from backend import store
from backend.corrections.corrector import PROPOSE_EVERY, Corrector
from backend.corrections.proposals import Kept, Outcome, Proposal, ProposalError, applied, apply, floors, keep, kept
from backend.corrections.records import Change, Correction
from backend.labeling.parsing import parse_config
from backend.settings import Settings
from tests.backend.conftest import MemoryStudio

XML = """<View><!-- kept -->
<Image name="image" value="$image"/>
<BrushLabels name="mask" toName="image" model_score_threshold="0.2">
  <Label value="cat"/><Label value="moai" alias="statue" model_score_threshold="0.4"/>
</BrushLabels></View>"""
GOOD = Proposal(
    True, "better", {"cat": 0.31, "statue": 0.5, "gone": 0.9}, 20, Outcome(20, 0.5, 0.6, 1.0, 0.1, 0.1), 0.2, 0.7
)
VERSION = parse_config(XML, "demo").version()


@pytest.fixture
def studio() -> MemoryStudio:
    return MemoryStudio(config=XML)


def test_what_is_applied_stands_in_the_labeling_config() -> None:
    xml = applied(XML, GOOD, "demo")
    config = parse_config(xml, "demo")
    assert config.thresholds() == {"cat": 0.31, "moai": 0.5}
    preset = config.model_preset(config.images[0])
    assert (preset.eta, preset.lambda_) == (0.2, 0.7)
    assert "<!-- kept -->" in xml
    assert config.version() != VERSION


def test_floors_are_the_thresholds_by_stored_name() -> None:
    assert floors(parse_config(XML, "demo")) == {"cat": 0.2, "statue": 0.4}


def test_a_proposal_survives_redis(redis: Redis) -> None:
    assert kept(redis, 1) is None
    assert keep(redis, 1, VERSION, GOOD) == kept(redis, 1)
    refused = Proposal(False, "Too few", {})
    keep(redis, 1, VERSION, refused)
    found = kept(redis, 1)
    assert isinstance(found, Kept)
    assert found.proposal == refused


def test_applied_once(redis: Redis, settings: Settings, studio: MemoryStudio) -> None:
    keep(redis, 1, VERSION, GOOD)
    apply(redis, settings, studio, 1)
    assert 'model_score_threshold="0.31"' in studio.config
    with pytest.raises(ProposalError, match="--calibrate"):
        apply(redis, settings, studio, 1)


@pytest.mark.parametrize(
    ("project", "version", "proposal", "words"),
    [
        (1, VERSION, Proposal(False, "No gain", {}), "No gain"),
        (1, "car-demo-00000000-00000000", GOOD, "has changed"),
        (2, VERSION, GOOD, "no project 2"),
    ],
)
def test_what_does_not_fit_is_not_applied(
    redis: Redis, settings: Settings, studio: MemoryStudio, project: int, version: str, proposal: Proposal, words: str
) -> None:
    keep(redis, project, version, proposal)
    with pytest.raises(ProposalError, match=words):
        apply(redis, settings, studio, project)
    assert studio.config == XML


@pytest.fixture
def corrector(redis: Redis, settings: Settings, studio: MemoryStudio) -> Corrector:
    return Corrector(redis, settings, studio)


def correct(corrector: Corrector, tasks: int) -> None:
    """Cats that are right score 0.8; wrong ones, which were removed, 0.25."""
    for task in range(tasks):
        right = task % 2 == 0
        change = Change("cat", 100, 100 if right else 0, 100 if right else 0, float(right))
        scores = {"cat": 0.8 if right else 0.25, "statue": 0.01}
        one = Correction(1, task, task, VERSION, float(task), None, (10, 10), (change,), scores)
        corrector.corrections.replace(1, task, [one])


def test_start_training_applies_what_is_proposed(corrector: Corrector, studio: MemoryStudio) -> None:
    correct(corrector, 40)
    proposed = corrector.propose(1)
    assert proposed is not None
    assert proposed.proposal.accepted, proposed.proposal.reason
    event = {"action": "START_TRAINING", "project": {"id": 1}}
    corrector.hear(event)
    assert 0.25 < parse_config(studio.config, "demo").thresholds()["cat"] < 0.8
    written = studio.config
    corrector.hear(event)
    assert studio.config == written, "once"


def test_three_corrected_tasks_are_refused(corrector: Corrector, studio: MemoryStudio) -> None:
    correct(corrector, 3)
    proposed = corrector.propose(1)
    assert proposed is not None
    assert "Too few: 3 corrected tasks" in proposed.proposal.reason
    corrector.hear({"action": "START_TRAINING", "project": {"id": 1}})
    assert studio.config == XML


def test_what_somebody_asked_for_waits_for_being_applied(corrector: Corrector, redis: Redis) -> None:
    correct(corrector, 40)
    asked = keep(redis, 1, VERSION, GOOD, asked=True)
    assert corrector.propose(1, asked=False) == asked
    assert corrector.propose(1) != asked, "asked again"
    keep(redis, 1, "car-demo-00000000-00000000", GOOD, asked=True)
    assert corrector.propose(1, asked=False) != asked, "it no longer fits"


def test_the_courier_proposes_every_few_tasks(corrector: Corrector, studio: MemoryStudio, redis: Redis) -> None:
    correct(corrector, PROPOSE_EVERY + 1)
    studio.show(PROPOSE_EVERY, "/data/upload/1/5.png")
    corrector.corrections.look_at(1, [PROPOSE_EVERY])  # it has lost its annotations: one less
    assert corrector.round()
    assert redis.exists(store.calibration_key(1))
    assert corrector.propose(3) is None
