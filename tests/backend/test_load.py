"""The load runs themselves: what they start and leave behind, a short chaos, a short soak."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backend.local.marks import marked
from backend.local.services import ROOT
from tests.load.chaos import Scenario, play
from tests.load.soak import Constant, Soak


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
@pytest.mark.timeout(240)
def test_a_short_chaos_ends_with_one_right_prediction_for_each_task() -> None:
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
        batch=5,
        change_open_at=1,
        reuse_ids_at=2.5,
        replace_project_at=13,
        redis_refuses_at=16,
        redis_refuses_for=4,
        redis_emptied_at=22,
        change_delivered_at=26,
        lose_webhook_at=28,
        converge=1,
        hurry=12,
        settings={"CAR_VERIFY_SECONDS": "2", "CAR_RETRY_SECONDS": "1"},
        limit=120,
    )
    result = play(scenario, lines.append)
    told = "\n".join([*lines, json.dumps(result)])
    # 40 by the regular imports; six upheavals leave a batch each, of which deleted tasks are no part.
    assert (result["sent"], result["delivered"]) == (70, 70), told
    assert (result["lost"], result["doubled"], result["wrong"]) == (0, 0, 0), told
    assert min(result["worker_kills"], result["courier_kills"]) >= 2, told
    done = ("redis_restarts", "redis_refusals", "redis_emptied", "projects_replaced", "webhooks_deleted")
    assert [result[name] >= 1 for name in done] == [True] * len(done), told
    assert (result["images_changed"], result["ids_reused"]) == (10, 10), told
    starts = 30  # of couriers that were killed meanwhile, beside other tests: this does not get quicker
    assert result["dead_worker_noticed_after"] < 90 / 12 + starts, told


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_short_soak_ends_with_one_right_prediction_for_each_task() -> None:
    lines: list[str] = []
    scenario = Constant(
        tasks=120,
        latency=0.1,
        import_every=2,
        tasks_per_import=10,
        batch=5,
        change_every=6,
        reuse_every=8,
        converge=1,
        settings={"CAR_VERIFY_SECONDS": "2", "CAR_RETRY_SECONDS": "1"},
        limit=90,
    )
    result = play(scenario, lines.append, Soak)
    told = "\n".join([*lines, json.dumps(result)])
    assert (result["lost"], result["doubled"], result["wrong"]) == (0, 0, 0), told
    assert result["sent"] == 120 + result["ids_reused"], told
    assert min(result["images_changed"], result["ids_reused"]) >= 5, told
    assert {"backend", "courier", "redis", "worker-1", "worker-2"} <= result["memory_mb"].keys(), told
