"""What docker-compose.yml and the Dockerfile promise: nothing published that need not be, nobody with more rights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import SSLConnection

from backend import store
from backend.app import create_app
from backend.settings import Settings
from tests.conftest import RedisProcess

ROOT = Path(__file__).parents[2]
OURS = ("backend", "courier", "worker", "worker-gpu")


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    compose: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return compose["services"]


def test_only_label_studio_is_published_and_only_on_this_machine(services: dict[str, dict[str, Any]]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"label-studio": ["127.0.0.1:8080:8080"]}
    assert not any("network_mode" in service for service in services.values())


@pytest.mark.parametrize("name", OURS)
def test_our_containers_cannot_write_or_rise(services: dict[str, dict[str, Any]], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert not {"privileged", "user", "cap_add", "pid"} & service.keys()
    assert all(not volume.startswith(("/", ".")) for volume in service["volumes"]), "nothing of the host is mounted"


def test_there_is_nothing_else(services: dict[str, dict[str, Any]]) -> None:
    assert set(services) == {*OURS, "label-studio", "redis"}


def test_redis_has_a_password_and_keeps_every_write(services: dict[str, dict[str, Any]]) -> None:
    command = services["redis"]["command"]
    assert command[command.index("--requirepass") + 1].startswith("${REDIS_PASSWORD:?")
    assert command[command.index("--appendonly") + 1] == "yes"


def test_no_password_is_written_down() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for line in text.splitlines():
        if any(word in line for word in ("PASSWORD", "TOKEN", "API_KEY", "REDISCLI_AUTH", "requirepass")):
            assert "${" in line or line.strip().startswith("#") or "ENABLE_LEGACY" in line, line


def test_the_image_runs_as_an_ordinary_user() -> None:
    last_stage = (ROOT / "Dockerfile").read_text().rsplit("\nFROM ", 1)[1]
    lines = last_stage.splitlines()
    assert "USER car" in lines
    assert not any(line.startswith(("RUN", "COPY")) for line in lines[lines.index("USER car") :])
    assert "USER root" not in lines


@pytest.mark.parametrize("patient", [True, False])
def test_rediss_means_tls_with_a_certificate_that_is_checked(patient: bool) -> None:
    pool = store.connect("rediss://:secret@redis.example:6380/2", patient=patient).connection_pool
    assert pool.connection_class is SSLConnection
    connection = pool.make_connection()
    assert (connection.cert_reqs.name, connection.check_hostname) == ("CERT_REQUIRED", True)
    assert (connection.password, connection.port, connection.db) == ("secret", 6380, 2)


def test_a_wrong_redis_password_is_said_and_not_shown(own_redis: RedisProcess, settings: Settings) -> None:
    store.connect(own_redis.url, patient=False).config_set("requirepass", "right-horse")
    for secret, status in (("right-horse", 200), ("wrong-horse", 503)):
        url = own_redis.url.replace("redis://", f"redis://:{secret}@")
        answer = create_app(settings.model_copy(update={"redis_url": url})).test_client().get("/health")
        assert answer.status_code == status
        assert "horse" not in answer.text
