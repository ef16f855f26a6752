"""The commands of docker-compose.yml, with its environment and its secrets by file, run here without containers."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from backend.local import redis_server
from backend.local.ports import any_free_port
from tests.deployment.support import ROOT, compose

PYTHON = (sys.executable, "-m", "backend")


class Host:
    """One host of the compose file: its services as processes, with ports and folders of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.redis_port, self.web_port = any_free_port(), any_free_port()
        self.services: dict[str, dict[str, Any]] = compose(CAR_PRESET="demo")["services"]
        self.started: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "scripts").mkdir()
        (folder / "scripts" / "secrets").write_text((ROOT / "scripts" / "secrets").read_text())
        subprocess.run(["sh", str(folder / "scripts" / "secrets")], check=True, capture_output=True)
        server = Path(redis_server.find_server())
        options = f"--port {self.redis_port} --bind 127.0.0.1 --dir {folder}"
        self.script("redis-server", f'exec "{server}" "$@" {options}')
        self.script("redis-cli", f'exec "{server.with_name("redis-cli")}" -p {self.redis_port} "$@"')

    def script(self, name: str, line: str) -> None:
        """Put a program where the services look for theirs."""
        (self.folder / "bin").mkdir(exist_ok=True)
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def own(self, text: object) -> str:
        """What a service is told, with the places of this test."""
        own = str(text).replace("/run/secrets/", f"{self.folder}/secrets/").replace("/label-studio/", f"{self.folder}/")
        return own.replace("redis://redis:6379", f"redis://127.0.0.1:{self.redis_port}").replace(
            "/home/car", str(self.folder)
        )

    def env(self, name: str) -> dict[str, str]:
        """The environment of a service: nothing but what the compose file gives it."""
        told = self.services[name].get("environment", {})
        path = f"{self.folder / 'bin'}:/usr/bin:/bin"
        given = {key: self.own(value) for key, value in told.items() if value is not None}
        return {"PATH": path, "HOME": str(self.folder), "PYTHONPATH": str(ROOT), **given}

    def start(self, name: str, *more: str) -> None:
        service = self.services[name]
        shell = [self.own(part) for part in service.get("entrypoint", ())]
        command = shell or [*PYTHON, *map(self.own, service["command"]), *more]
        with (self.folder / f"{name}.log").open("wb") as log:
            self.started[name] = subprocess.Popen(
                command, cwd=self.folder, env=self.env(name), stdout=log, stderr=subprocess.STDOUT
            )

    def is_healthy(self, name: str, *more: str) -> bool:
        kind, *test = self.services[name]["healthcheck"]["test"]
        command: Sequence[str] = (
            ["sh", "-c", *map(self.own, test)] if kind == "CMD-SHELL" else [*PYTHON, *test[3:], *more]
        )
        return subprocess.run(command, env=self.env(name), capture_output=True, timeout=60).returncode == 0

    def await_health(self, name: str, *more: str, seconds: float = 180) -> None:
        until = time.monotonic() + seconds
        while not self.is_healthy(name, *more):
            log = (self.folder / f"{name}.log").read_text()
            assert self.started[name].poll() is None, log
            assert time.monotonic() < until, log
            time.sleep(0.5)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    found = Host(tmp_path)
    yield found
    for process in found.started.values():
        process.kill()
        process.wait()


@pytest.mark.slow
def test_redis_backend_courier_and_worker_come_up_healthy_and_go(host: Host) -> None:
    host.start("redis")
    host.await_health("redis")
    assert (
        "NOAUTH" in subprocess.run([host.folder / "bin" / "redis-cli", "ping"], capture_output=True, text=True).stdout
    )

    url = f"http://127.0.0.1:{host.web_port}"
    at = ("--url", url)
    for name in ("courier", "worker"):
        assert not host.is_healthy(name), "it does not run yet"
    host.start("backend", "--port", str(host.web_port))
    host.start("courier")
    host.start("worker")
    host.await_health("backend", *at)
    host.await_health("courier")
    host.await_health("worker")
    password = (host.folder / "secrets" / "basic-auth-pass").read_text()
    assert requests.get(f"{url}/health", timeout=10).status_code == 401
    assert requests.get(f"{url}/health", timeout=10, auth=("car", password)).json()["status"] == "UP"

    for name in ("worker", "courier", "backend", "redis"):
        began = time.monotonic()
        host.started[name].terminate()
        host.started[name].wait(60)
        print(f"{name} went {time.monotonic() - began:.1f} s after SIGTERM")
    secrets = [path.read_text() for path in (host.folder / "secrets").iterdir()]
    logs = "".join(path.read_text() for path in host.folder.glob("*.log"))
    assert not any(secret in logs for secret in [*secrets, "Traceback"]), logs


def test_label_studio_gets_its_secrets(host: Host) -> None:
    (host.folder / "deploy").mkdir()
    entrypoint = host.folder / "deploy" / "docker-entrypoint.sh"
    entrypoint.write_text('#!/bin/sh\necho "$@"\nenv\n')
    entrypoint.chmod(0o755)
    host.start("label-studio")
    assert host.started["label-studio"].wait(30) == 0
    said = (host.folder / "label-studio.log").read_text()
    for variable, name in (("USER_TOKEN", "label-studio-api-key"), ("PASSWORD", "label-studio-password")):
        assert f"LABEL_STUDIO_{variable}={(host.folder / 'secrets' / name).read_text()}\n" in said
    assert said.startswith("label-studio\n")


def test_the_redis_of_kubernetes_asks_for_its_password(host: Host) -> None:
    """Its command is the compose file's but for places; what a readiness probe runs tells whether it works."""
    documents = yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "base" / "redis.yaml").read_text())
    (own,) = next(one for one in documents if one["kind"] == "StatefulSet")["spec"]["template"]["spec"]["containers"]
    places = {"/etc/car/secrets/": f"{host.folder}/secrets/", "--dir /data": ""}

    def here(command: Sequence[str]) -> list[str]:
        for place, mine in places.items():
            command = [part.replace(place, mine) for part in command]
        return list(command)

    env = {"PATH": f"{host.folder / 'bin'}:/usr/bin:/bin"}
    with (host.folder / "redis.log").open("wb") as log:
        host.started["redis"] = subprocess.Popen(here(own["command"]), env=env, cwd=host.folder, stdout=log)
    until = time.monotonic() + 30
    while subprocess.run(here(own["readinessProbe"]["exec"]["command"]), env=env, capture_output=True).returncode:
        assert time.monotonic() < until, (host.folder / "redis.log").read_text()
        time.sleep(0.1)
    (host.folder / "secrets" / "redis-password").write_text("another")
    assert subprocess.run(here(own["readinessProbe"]["exec"]["command"]), env=env, capture_output=True).returncode == 1
