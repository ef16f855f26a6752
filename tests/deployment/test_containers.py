"""What docker-compose.yml and the Dockerfile promise: nothing published that need not be, nobody with more rights.

There is no Docker engine here: the file is checked against the compose-spec's schema, and `test_compose_natively.py`
runs the commands that it names.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from backend.connections import webhook_problem
from tests.deployment.support import ROOT, compose, parsed_arguments

OURS = ("backend", "courier", "worker", "worker-gpu")
SECRETS = {"label-studio-api-key", "label-studio-password", "redis-password", "basic-auth-pass"}


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def example() -> dict[str, str]:
    """The variables that .env.example sets, and, with their comment sign taken away, those that it offers."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", "\n".join(lines), re.MULTILINE))


def test_it_is_a_compose_file(tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").write_text(yaml.safe_dump(compose()))
    for path in (ROOT / "docker-compose.yml", tmp_path / "docker-compose.yml"):  # as written, and with .env filled in
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_ports_are_published_on_this_machine_only(services: dict[str, dict[str, Any]]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"label-studio": ["127.0.0.1:8080:8080"], "backend": ["127.0.0.1:9090:9090"]}
    assert not any("network_mode" in service for service in services.values())


def test_label_studio_can_make_a_webhook_to_the_address_that_is_documented(
    services: dict[str, dict[str, Any]],
) -> None:
    (alias,) = services["backend"]["networks"]["default"]["aliases"]
    url = f"http://{alias}:9090"
    assert webhook_problem(url) == ""
    for name in ("README.md", "docs/deployment.md", "docs/connect.md", "docker-compose.yml"):
        assert url in (ROOT / name).read_text(), name
    (known,) = set(re.findall(r"http://car-web[\w.-]*:9090", (ROOT / "docs" / "deployment.md").read_text()))
    assert webhook_problem(known) == "", "Kubernetes"


@pytest.mark.parametrize("name", OURS)
def test_our_containers_cannot_write_or_rise(services: dict[str, dict[str, Any]], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert not {"privileged", "user", "cap_add", "pid"} & service.keys()
    volumes = service.get("volumes", [])
    assert all(not volume.startswith(("/", ".")) for volume in volumes), "nothing of the host is mounted"


@pytest.mark.parametrize("name", OURS)
def test_our_commands_exist(services: dict[str, dict[str, Any]], name: str) -> None:
    service = services[name]
    parsed_arguments(service["command"])
    check = service["healthcheck"]["test"]
    assert check[:4] == ["CMD", "python", "-m", "backend"]
    parsed_arguments(check[4:])


def test_there_is_nothing_else(services: dict[str, dict[str, Any]]) -> None:
    assert set(services) == {*OURS, "label-studio", "redis"}
    profiles = {name: service["profiles"] for name, service in services.items() if "profiles" in service}
    assert profiles == {"label-studio": ["label-studio"], "worker": ["cpu"], "worker-gpu": ["gpu"]}
    chosen = example()["COMPOSE_PROFILES"].split(",")
    assert {(one,) for one in chosen} < {tuple(one) for one in profiles.values()}


def test_who_has_torch(services: dict[str, dict[str, Any]]) -> None:
    targets = {name: (services[name]["build"]["target"], services[name]["image"]) for name in OURS}
    web, worker = ("web", "car-web"), ("worker", "car-worker")
    assert targets == {"backend": web, "courier": web, "worker": worker, "worker-gpu": worker}


def test_every_variable_is_explained() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    used = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", text))
    elsewhere = {"CAR_LOG", "CAR_GPU", "OMP_NUM_THREADS"}  # docs/deployment.md
    assert used - elsewhere <= example().keys()
    assert example().keys() - used <= {"COMPOSE_PROFILES"}
    deployment = (ROOT / "docs" / "deployment.md").read_text()
    assert all(f"`{name}" in deployment for name in elsewhere)


def test_secrets_come_by_file(services: dict[str, dict[str, Any]]) -> None:
    assert set(compose()["secrets"]) == SECRETS
    for name, service in services.items():
        text = yaml.safe_dump(service)
        assert set(re.findall(r"/run/secrets/([a-z-]+)", text)) == set(service["secrets"]), name
        for variable, value in service["environment"].items() if "environment" in service else ():
            if any(word in variable for word in ("PASS", "TOKEN", "API_KEY")):
                assert variable.endswith("_FILE") or value == "true", f"{variable} of {name}"
    assert not any("PASS" in name or "KEY" in name for name in example())


def test_the_script_makes_the_secrets_once(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "secrets"
    script.write_text((ROOT / "scripts" / "secrets").read_text())
    assert os.access(ROOT / "scripts" / "secrets", os.X_OK)
    subprocess.run(["sh", str(script)], check=True, capture_output=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert made.keys() == SECRETS
    assert all(re.fullmatch("[0-9a-f]{40}", secret) for secret in made.values())
    assert len(set(made.values())) == len(made)
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    subprocess.run(["sh", str(script)], check=True, capture_output=True)
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == made
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("target", ["web", "worker"])
def test_the_image_runs_as_an_ordinary_user(target: str) -> None:
    stages = {one.split("\n")[0].rpartition(" AS ")[2]: one for one in dockerfile().split("\nFROM ")[1:]}
    lines = stages[target].splitlines()
    assert lines[0] == f"base AS {target}"
    assert "USER car" in lines
    assert not any(line.startswith(("RUN", "COPY")) for line in lines[lines.index("USER car") :])
    assert "USER root" not in lines
    parsed_arguments(yaml.safe_load(next(line for line in lines if line.startswith("CMD "))[4:]))
    (packages,) = re.findall(r"COPY --from=(\S+) /opt/venv", stages[target])
    wanted = {"web": "requirements-web.txt", "worker": "requirements.txt"}[target]
    assert re.findall(r"requirements\S*\.txt", stages[packages]) == [wanted, wanted]


def test_what_is_copied_is_sent_to_the_builder() -> None:
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = re.findall(r"^COPY (?!--from)(\S+)", dockerfile(), re.MULTILINE)
    assert set(copied) == set(sent)
    assert all((ROOT / name).exists() for name in sent)


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()
