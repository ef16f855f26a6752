"""The load runs themselves: that their stub behaves as Label Studio does, and a short chaos."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.images.fetcher import ImageFetcher, ImageUnavailable
from backend.local.marks import marked
from backend.local.ports import any_free_port
from backend.local.services import ROOT
from backend.studio.client import Studio, StudioError, StudioUnavailable
from tests.load.chaos import Scenario, play
from tests.load.shelf import Faults
from tests.load.stub_studio import HOST, TOKEN, StubStudio


@pytest.fixture
def stub() -> Iterator[StubStudio]:
    """With two tasks, 1 and 2."""
    studio = StubStudio(any_free_port())
    studio.shelf.add_tasks(2)
    studio.back()
    yield studio
    studio.gone()


@pytest.fixture
def client(stub: StubStudio) -> Studio:
    return Studio(f"http://{HOST}:{stub.port}", TOKEN, timeout=5)


def prediction(task: int, version: str = "v1") -> dict[str, Any]:
    return {"task": task, "result": [{"id": "a"}], "score": 0.5, "model_version": version}


def test_the_same_prediction_twice_is_there_twice(stub: StubStudio, client: Studio) -> None:
    assert client.create_prediction(1, prediction(1))
    assert client.import_predictions(1, [prediction(1), prediction(2), prediction(2, "v2")]) == 3
    assert [one["model_version"] for one in client.predictions(1)] == ["v1", "v1"]
    assert stub.shelf.report()["doubled"] == [1]
    assert client.delete_prediction(client.predictions(1)[0]["id"])
    report = stub.shelf.report()
    assert (report["doubled"], report["stored"], report["missing"]) == ([], {"v1": 2, "v2": 1}, [])


def test_one_unknown_task_refuses_the_whole_batch(stub: StubStudio, client: Studio) -> None:
    with pytest.raises(StudioError, match="400"):
        client.import_predictions(1, [prediction(1), prediction(99)])
    assert stub.shelf.report()["missing"] == [1, 2]


def test_a_deleted_task_is_unknown(stub: StubStudio, client: Studio) -> None:
    stub.shelf.delete_task(2)
    assert client.predictions(2) == []
    assert not client.create_prediction(2, prediction(2))
    assert client.task_exists(1)


def test_the_token_is_checked(stub: StubStudio) -> None:
    with pytest.raises(StudioError, match="401"):
        Studio(f"http://{HOST}:{stub.port}", "wrong").predictions(1)


@pytest.mark.parametrize("faults", [Faults(errors=1.0), Faults(resets=1.0)], ids=["500", "connection cut"])
def test_faults_are_what_may_pass(stub: StubStudio, client: Studio, faults: Faults) -> None:
    stub.faults = faults
    for _ in range(20):  # the cut comes before or after the work, by chance
        with pytest.raises(StudioUnavailable):
            client.create_prediction(1, prediction(1))
    stored = len(stub.shelf.predictions(1))
    assert stored == stub.shelf.counts["cut after"]
    assert (stored > 0) == bool(faults.resets)


def test_gone_and_back_with_its_data(stub: StubStudio, client: Studio) -> None:
    client.create_prediction(1, prediction(1))
    stub.gone()
    with pytest.raises(StudioUnavailable):
        client.create_prediction(1, prediction(1))
    stub.back()
    assert len(client.predictions(1)) == 1


def test_its_images_are_fetched_as_those_of_label_studio(stub: StubStudio, client: Studio) -> None:
    fetcher = ImageFetcher(client.url, client.authorization)
    url = stub.task(1)["data"]["image"]
    height, width, channels = fetcher.fetch(url, 1).shape
    assert (height * width, channels) == (pytest.approx(256 * 256, rel=0.02), 3)
    stub.gone()
    with pytest.raises(ImageUnavailable):
        fetcher.fetch(url, 1)


@pytest.mark.parametrize(
    ("call", "field"),
    [(lambda stub: stub.import_tasks(3), "webhooks lost"), (lambda stub: stub.retrieve([1]), "retrievals failed")],
    ids=["import", "retrieve"],
)
def test_a_backend_that_is_away_is_not_asked_again(
    stub: StubStudio, call: Callable[[StubStudio], Any], field: str
) -> None:
    stub.backend_url = f"http://{HOST}:{any_free_port()}"
    call(stub)
    assert stub.shelf.counts[field] == 1


def test_the_null_worker_needs_no_torch() -> None:
    code = (
        "import json, sys; from tests.load.null_worker import stand_in; stand_in(0); import backend.worker; "
        "print(json.dumps('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False


@pytest.mark.slow
def test_a_killed_run_leaves_nobody_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.load.fleet", "--tasks", "5000", "--hosts", "1", "--workers", "1"]
    run = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while len(found := [pid for folder in tmp_path.glob("car-load-*") for pid in marked(folder)]) < 5:
            assert run.poll() is None
            assert time.monotonic() < until, f"only {len(found)} processes run"
            time.sleep(0.1)
    finally:
        run.kill()
        run.wait()
    (folder,) = tmp_path.glob("car-load-*")
    until = time.monotonic() + 20
    while marked(folder) and time.monotonic() < until:
        time.sleep(0.1)
    assert marked(folder) == []


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_a_short_chaos_loses_nothing_and_doubles_nothing() -> None:
    """Every waiting time is divided by 12, so that what takes minutes in `make chaos` takes seconds here."""
    lines: list[str] = []
    scenario = Scenario(
        tasks=40,
        workers=2,
        latency=0.1,
        kill_worker_every=4,
        kill_courier_every=6,
        redis_restarts=1,
        redis_restart_every=5,
        studio_gone_at=7,
        studio_gone_for=4,
        import_every=1,
        tasks_per_import=5,
        hurry=12,
        settings={"CAR_VERIFY_SECONDS": "2", "CAR_RETRY_SECONDS": "1"},
        limit=90,
    )
    result = play(scenario, lines.append)
    told = "\n".join([*lines, json.dumps(result)])
    assert (result["sent"], result["delivered"], result["lost"], result["doubled"]) == (40, 40, 0, 0), told
    assert min(result["worker_kills"], result["courier_kills"]) >= 2, told
    assert result["redis_restarts"] == 1, told
    starts = 30  # of couriers that were killed meanwhile, beside other tests: this does not get quicker
    assert result["dead_worker_noticed_after"] < 90 / 12 + starts, told
