"""`corrections --memory`: where the file lies, what the labeling config says of it, and what is forgotten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from redis import Redis

from backend.__main__ import main
from backend.corrections import teach
from backend.corrections.corrector import Corrector
from backend.corrections.proposals import ProposalError, apply, kept
from backend.labeling.parsing import parse_config
from backend.settings import Settings
from model.memory import MemoryFileError, digest, read
from tests.backend.conftest import MemoryStudio
from tests.backend.corrections.test_calibrate_project import correction, studio_with_images
from tests.backend.corrections.test_remembering import LABELS, Knows, example

XML = """<View><Image name="image" value="$image"/><BrushLabels name="mask" toName="image">
<Label value="cat"/><Label value="dog"/><Label value="zorblax" alias="zbx"/></BrushLabels></View>"""


@pytest.fixture
def project() -> MemoryStudio:
    return MemoryStudio(config=XML)


@pytest.fixture
def corrector(
    redis: Redis, settings: Settings, project: MemoryStudio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Corrector:
    monkeypatch.setattr(teach, "Segmenter", lambda *_: Knows())
    monkeypatch.setattr(teach, "newest", lambda *_: [example(task) for task in range(24)])
    own = settings.model_copy(update={"car_memory": str(tmp_path)})
    return Corrector(redis, own, project)  # type: ignore[arg-type]


def test_a_memory_that_helps_is_a_file_and_applied_an_attribute(
    corrector: Corrector, redis: Redis, project: MemoryStudio, tmp_path: Path
) -> None:
    found = teach.teach_project(corrector, corrector.settings, 1, "logos", seed=0)
    assert found is not None
    assert found.proposal.accepted, found.proposal.reason
    path = tmp_path / "logos.safetensors"
    assert found.proposal.memory == f"logos#{digest(path.read_bytes())}"
    assert kept(redis, 1) == found
    before = parse_config(project.config, "demo").version()
    apply(redis, corrector.settings, project, 1)  # type: ignore[arg-type]
    config = parse_config(project.config, "demo")
    assert config.version() != before
    located = corrector.settings.located(config.model_preset(config.images[0]))
    assert set(read(located.memory).labels) == {"", *LABELS}


def test_forgotten_tasks_are_gone_from_the_file_and_the_rest_is_proposed(
    corrector: Corrector, redis: Redis, tmp_path: Path
) -> None:
    first = teach.teach_project(corrector, corrector.settings, 1, "logos", seed=0)
    left = teach.forget(corrector, corrector.settings, 1, "logos", [3, 4])
    assert first is not None
    assert left is not None
    assert left.proposal.accepted
    assert "4 regions of task 3, 4 are forgotten" in left.proposal.reason
    assert left.proposal.memory not in (None, first.proposal.memory)
    assert not {3, 4} & set(read(f"{tmp_path}/logos.safetensors").tasks.tolist())
    with pytest.raises(ProposalError, match="nothing of task 3, 4"):
        teach.forget(corrector, corrector.settings, 1, "logos", [3, 4])
    with pytest.raises(MemoryFileError, match="cannot be read"):
        teach.forget(corrector, corrector.settings, 1, "others", [3])


def test_what_does_not_help_leaves_no_file(
    corrector: Corrector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(teach, "newest", lambda *_: [example(task) for task in range(3)])
    found = teach.teach_project(corrector, corrector.settings, 1, "logos", seed=0)
    assert found is not None
    assert (found.proposal.accepted, found.proposal.memory) == (False, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("memory", "setting"),
    [
        ("logos", "logos#0"),
        ("logos.safetensors", "logos#0"),
        ("a.b-c", "a.b-c#0"),
        ("/elsewhere/logos", None),
        ("../logos", None),
        ("two words", None),
        (".hidden", None),
    ],
)
def test_a_labeling_config_names_files_of_one_folder(memory: str, setting: str | None, tmp_path: Path) -> None:
    settings = Settings(car_memory=str(tmp_path))
    if setting is not None:
        assert teach.named(teach.path_of(memory, settings), settings, "0") == setting
        return
    with pytest.raises(ProposalError, match=r"CAR_MEMORY.*give --memory a bare name"):
        teach.named(teach.path_of(memory, settings), settings, "0")


def test_annotators_err_in_the_same_way_each_time() -> None:
    right = [example(task) for task in range(200)]
    shares = {
        wrong: np.mean([set(teach.mistaken(one, LABELS, wrong)) != set(one.masks()) for one in right])
        for wrong in (0.0, 0.2, 1.0)
    }
    assert shares[0.0] == 0
    assert 0.15 < shares[0.2] < 0.45
    assert shares[1.0] > 0.95
    assert teach.mistaken(right[0], LABELS, 0.5).keys() == teach.mistaken(right[0], LABELS, 0.5).keys()
    assert all(len(teach.mistaken(one, ("a", "b", "c"), 1.0)) == len(one.masks()) for one in right)


def test_the_command_on_a_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(teach, "Segmenter", lambda *_: Knows())
    monkeypatch.setattr(teach, "read_folder", lambda _: (("cat", "dog", "zrb"), [example(task) for task in range(24)]))
    command = ["corrections", "--folder", "here", "--memory", str(tmp_path / "m"), "--rename", "zrb=zorblax"]
    assert main([*command, "--seeds", "2"]) == 0
    told = capsys.readouterr()
    assert told.out.count("accepted") == 2
    assert f"{tmp_path}/m.safetensors#" in told.err
    assert set(read(f"{tmp_path}/m.safetensors").labels) == {"", *LABELS}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--folder", "x"], "--folder goes with"),
        (["--folder", "x", "--memory", "m", "--calibrate"], "--folder goes with"),
        (["--folder", "x", "--memory", "m", "--forget", "3"], "--folder goes with"),
        (["--project", "1", "--memory", "m", "--calibrate"], "one after the other"),
        (["--project", "1", "--memory", "m", "--wrong", "10"], "experiments"),
        (["--project", "1", "--memory", "m", "--rename", "a=b"], "experiments"),
        (["--folder", "x", "--memory", "m", "--wrong", "101"], "percentage"),
        (["--project", "1", "--forget", "3"], "--forget goes with --memory"),
    ],
)
def test_options_that_contradict_each_other(options: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corrections", *options]) == 2
    assert why in capsys.readouterr().err


def test_newest_corrected_tasks_are_read_from_label_studio(redis: Redis, settings: Settings) -> None:
    from backend.corrections.calibrate_project import newest, served

    corrector = Corrector(redis, settings, studio_with_images([5]))  # type: ignore[arg-type]
    corrector.corrections.replace(1, 5, [correction(5)])
    config = served(corrector, settings, 1)
    assert config is not None
    (found,) = newest(corrector, settings, 1, config)
    assert found.image().shape == (20, 20, 3)
    assert all(mask.shape == (20, 20) for mask in found.masks().values())
