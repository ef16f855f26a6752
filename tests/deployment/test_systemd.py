"""deploy/systemd: the units as systemd reads them, with the Python of these tests in the place of /opt/car's."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from backend.doctor.here import ELSEWHERE
from backend.settings import SECRETS, Settings
from tests.deployment.support import ROOT, parsed_arguments

FOLDER = ROOT / "deploy" / "systemd"
UNITS = ("car-web.service", "car-courier.service", "car-worker@.service")


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(FOLDER / name)
    return parser


@pytest.mark.parametrize("name", UNITS)
def test_units_start_our_commands_with_few_rights(name: str) -> None:
    service = unit(name)["Service"]
    python, flag, module, *arguments = service["ExecStart"].split()
    assert (python, flag, module) == ("/opt/car/.venv/bin/python", "-m", "backend")
    parsed_arguments(arguments)
    assert service["User"] == "car"
    assert service["Restart"] == "always"
    assert service["EnvironmentFile"] == "/etc/car/settings.env"
    for right in ("NoNewPrivileges", "PrivateTmp", "ProtectHome", "LockPersonality", "RestrictSUIDSGID"):
        assert service[right] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert unit(name)["Install"]["WantedBy"] == "multi-user.target"


def test_there_is_a_worker_for_each_card_which_may_finish_its_image() -> None:
    text = (FOLDER / "car-worker@.service").read_text()
    assert "Environment=CUDA_VISIBLE_DEVICES=%i\n" in text
    assert int(unit("car-worker@.service")["Service"]["TimeoutStopSec"]) >= 120
    assert {path.name for path in FOLDER.glob("*.service")} == set(UNITS)


def test_settings_are_known() -> None:
    names = set(re.findall(r"^([A-Z_]+)=", (FOLDER / "settings.env").read_text(), re.MULTILINE))
    known = {*(name.upper() for name in Settings.model_fields), *ELSEWHERE, *(f"{name}_FILE" for name in SECRETS)}
    assert names <= known
    assert {f"{name}_FILE" for name in SECRETS} - {"REDIS_URL_FILE"} <= names


def test_systemd_understands_them(tmp_path: Path) -> None:
    """By `systemd-analyze verify` where there is one; the tests above read the units without it."""
    for name in UNITS:
        text = (FOLDER / name).read_text().replace("/opt/car/.venv/bin/python", sys.executable)
        (tmp_path / name).write_text(text.replace("WorkingDirectory=/opt/car", f"WorkingDirectory={tmp_path}"))
        assert re.fullmatch(r"(#.*\n|\[\w+\]\n|[A-Za-z]+=.*\n|\n)+", text), "sections, settings and comments only"
    analyze = shutil.which("systemd-analyze")
    if analyze:
        paths = [str(tmp_path / name) for name in UNITS]
        done = subprocess.run([analyze, "verify", "--man=no", *paths], capture_output=True, text=True, timeout=120)
        ours = [line for line in done.stderr.splitlines() if "car-" in line]
        assert (done.returncode, ours) == (0, []), done.stderr
