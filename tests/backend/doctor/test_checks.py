"""What cannot be broken for real: other Redises, full disks, addresses of other machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backend.doctor import here, inside
from backend.doctor.findings import Verdict, as_text, exit_code, ok, problem, unknown
from backend.doctor.inside import Web
from backend.doctor.studio import choose_backend
from backend.settings import Settings


@pytest.mark.parametrize(
    ("info", "verdict", "words"),
    [
        ({"redis_version": "6.2.7"}, Verdict.OK, "version 6.2.7"),
        ({"redis_version": "7.2.4"}, Verdict.OK, "version 7.2.4"),
        ({"redis_version": "6.0.16"}, Verdict.PROBLEM, "Redis 6.0.16"),
        ({"redis_version": "7.4.0", "cluster_enabled": 1}, Verdict.PROBLEM, "Cluster"),
    ],
)
def test_redis_versions(info: dict[str, Any], verdict: Verdict, words: str) -> None:
    finding = inside._version(info, "redis://:hush@redis:6379/0")
    assert (finding.verdict, words in finding.detail, "hush" in finding.detail) == (verdict, True, False)


@pytest.mark.parametrize(
    ("info", "verdict"),
    [
        ({"aof_enabled": 1, "aof_last_write_status": "ok"}, Verdict.OK),
        ({"aof_enabled": 1, "aof_last_write_status": "err"}, Verdict.PROBLEM),
        ({"aof_enabled": 0}, Verdict.PROBLEM),
    ],
)
def test_redis_persistence(info: dict[str, Any], verdict: Verdict) -> None:
    assert inside._persistence(info).verdict is verdict


@pytest.mark.parametrize(
    ("info", "verdict"),
    [
        ({"maxmemory": 0, "used_memory": 5, "maxmemory_policy": "allkeys-lru"}, Verdict.OK),  # nothing to evict for
        ({"maxmemory": 100, "used_memory": 89, "maxmemory_policy": "noeviction"}, Verdict.OK),
        ({"maxmemory": 100, "used_memory": 91, "maxmemory_policy": "noeviction"}, Verdict.PROBLEM),
        ({"maxmemory": 100, "used_memory": 5, "maxmemory_policy": "volatile-ttl"}, Verdict.PROBLEM),
    ],
)
def test_redis_memory(info: dict[str, Any], verdict: Verdict) -> None:
    assert inside._memory(info).verdict is verdict


@pytest.mark.parametrize(
    ("url", "about", "password", "verdict"),
    [
        ("http://127.0.0.1:9090", {"open": False}, "", Verdict.OK),
        ("http://localhost:9090", {"open": False}, "", Verdict.OK),
        ("http://[::1]:9090", {"open": False}, "", Verdict.OK),
        ("http://10.0.0.4:9090", {"open": False}, "", Verdict.PROBLEM),
        ("http://backend:9090", {"open": False}, "", Verdict.PROBLEM),
        ("http://backend:9090", {"open": True}, "", Verdict.OK),
        ("http://backend:9090", {"open": False}, "hush", Verdict.OK),
        ("http://backend:9090", {}, "", Verdict.UNKNOWN),
    ],
)
def test_who_must_ask_for_a_password(url: str, about: dict[str, Any], password: str, verdict: Verdict) -> None:
    settings = Settings(basic_auth_user="a" if password else "", basic_auth_pass=password)
    finding = inside.check_password(Web(url, about), settings)
    assert finding.verdict is verdict
    assert ("BASIC_AUTH_USER" in finding.fix) is (verdict is not Verdict.OK)


@pytest.mark.parametrize(
    ("meminfo", "verdict"),
    [
        ("MemTotal: 9 kB\nMemAvailable:    8388608 kB\n", Verdict.OK),
        ("MemAvailable:    1000 kB\n", Verdict.PROBLEM),
        ("nothing of the kind", Verdict.UNKNOWN),
        (None, Verdict.UNKNOWN),
    ],
)
def test_memory_left(tmp_path: Path, meminfo: str | None, verdict: Verdict) -> None:
    file = tmp_path / "meminfo"
    if meminfo is not None:
        file.write_text(meminfo)
    disk, memory = here.check_room(tmp_path, file)
    assert (disk.check, memory.check, memory.verdict) == ("disk", "memory", verdict)


def test_disk_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "ROOM", 2**70)
    disk, _ = here.check_room(tmp_path)
    assert disk.verdict is Verdict.PROBLEM
    assert str(tmp_path) in disk.detail


OTHER, OURS = (
    {"url": "http://sam:9090", "model_version": "sam"},
    {"url": "http://b:9090/", "model_version": "car-demo-1"},
)


@pytest.mark.parametrize(
    ("backends", "url", "chosen"),
    [
        ([], None, None),
        ([OTHER], None, OTHER),
        ([OTHER, OURS], None, OURS),
        ([OTHER, OURS], "http://sam:9090", OTHER),
        ([OTHER, OURS], "http://b:9090", OURS),
        ([OTHER, OURS], "http://elsewhere", OURS),
    ],
)
def test_which_backend_is_ours(backends: list[dict[str, Any]], url: str | None, chosen: dict[str, Any] | None) -> None:
    assert choose_backend(backends, url) == chosen


def test_the_report() -> None:
    findings = [ok("redis", "fine"), unknown("project", "none named"), problem("courier", "none", "Start it.")]
    assert as_text(findings).splitlines() == [
        "ok           redis    fine",
        "cannot tell  project  none named",
        "problem      courier  none",
        "                      -> Start it.",
    ]
    assert (exit_code(findings), exit_code(findings[:2])) == (1, 0)
