"""deploy/kubernetes against the schemas of Kubernetes' own objects, and against itself.

There is no cluster here, and no kustomize: what that would put together is read file by file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from redis import Redis

from backend import store
from backend.commands.serve import GRACE_SECONDS
from backend.doctor.here import ELSEWHERE
from backend.queue.jobs import Job, Jobs
from backend.queue.queues import TakingQueue
from backend.settings import SECRETS, Settings
from tests.deployment.support import ROOT, parsed_arguments

FOLDER = ROOT / "deploy" / "kubernetes"
KEDA_ASKS = """
local commands = { zset = 'zcard', set = 'scard', list = 'llen', hash = 'hlen', none = 'llen' }
return redis.call(commands[redis.call('type', KEYS[1]).ok], KEYS[1])
"""
"""What KEDA's redis scaler (2.17, pkg/scalers/redis_scaler.go) asks of the key that it watches, in our words."""


def documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def manifests() -> list[dict[str, Any]]:
    """All objects of Kubernetes' own kinds."""
    paths = [*(FOLDER / "base").glob("*.yaml"), FOLDER / "secret.example.yaml"]
    return [one for path in paths for one in documents(path) if one["kind"] != "Kustomization"]


def of_kind(*kinds: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in manifests() if one["kind"] in kinds}


WORKLOADS = of_kind("Deployment", "StatefulSet")
OURS = ("car-web", "car-courier", "car-worker")


def pod(name: str) -> dict[str, Any]:
    found: dict[str, Any] = WORKLOADS[name]["spec"]["template"]["spec"]
    return found


def container(name: str) -> dict[str, Any]:
    (found,) = pod(name)["containers"]
    assert isinstance(found, dict)
    return found


def settings_env() -> dict[str, str]:
    text = (FOLDER / "base" / "settings.env").read_text()
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))


@pytest.mark.parametrize("manifest", manifests(), ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_each_object_is_one_of_kubernetes(manifest: dict[str, Any]) -> None:
    for version in ("1.29", kubernetes_validate.latest_version()):
        kubernetes_validate.validate(manifest, version, strict=True)
    assert "namespace" not in manifest["metadata"]


def test_what_belongs_together_is_there() -> None:
    assert {*OURS, "redis"} == WORKLOADS.keys()
    assert of_kind("Service").keys() == {"car-web", "redis"}
    assert of_kind("PodDisruptionBudget").keys() == set(OURS)
    for name, workload in WORKLOADS.items():
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert workload["spec"]["selector"]["matchLabels"] == labels == {"app": name}
    for name, service in of_kind("Service").items():
        assert service["spec"]["selector"] == {"app": name}
        ports = {port["name"] for port in container(name)["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for name, budget in of_kind("PodDisruptionBudget").items():
        assert budget["spec"]["selector"]["matchLabels"] == {"app": name}
        replicas = WORKLOADS[name]["spec"]["replicas"]
        assert budget["spec"].get("maxUnavailable") or budget["spec"]["minAvailable"] < replicas, (
            "a node can be drained"
        )


@pytest.mark.parametrize("name", OURS)
def test_commands_and_probes_exist(name: str) -> None:
    own = container(name)
    assert own["image"] == ("car-worker" if name == "car-worker" else "car-web")
    assert parsed_arguments(own["args"]) is not None
    assert own["args"][0] == {"car-web": "serve"}.get(name, name.removeprefix("car-"))
    assert own["livenessProbe"]
    probes = [probe["exec"]["command"] for key, probe in own.items() if key.endswith("Probe") and "exec" in probe]
    assert probes
    for command in probes:
        assert command[:3] == ["python", "-m", "backend"]
        assert parsed_arguments(command[3:]).check == name.removeprefix("car-")


@pytest.mark.parametrize("name", [*OURS, "redis"])
def test_nobody_has_more_rights_than_it_needs(name: str) -> None:
    rights, own = pod(name)["securityContext"], container(name)["securityContext"]
    assert rights["runAsNonRoot"] is True
    assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(name)["automountServiceAccountToken"] is False
    assert pod(name)["enableServiceLinks"] is False, "CAR_WEB_PORT would look like a setting"
    mounts = {one["name"] for one in container(name)["volumeMounts"]}
    claims = {one["metadata"]["name"] for one in WORKLOADS[name]["spec"].get("volumeClaimTemplates", ())}
    assert mounts == {one["name"] for one in pod(name)["volumes"]} | claims
    assert container(name)["resources"]["limits"]["memory"]


def test_settings_are_known_and_secrets_are_files() -> None:
    env = settings_env()
    known = {*(name.upper() for name in Settings.model_fields), *ELSEWHERE, *(f"{name}_FILE" for name in SECRETS)}
    own = {one["name"] for name in OURS for one in container(name).get("env", ())}
    assert env.keys() | own <= known
    (secret,) = of_kind("Secret").values()
    files = {value.rpartition("/")[2] for name, value in env.items() if name.endswith("_FILE")}
    assert files == secret["stringData"].keys()
    assert all(value.startswith("/etc/car/secrets/") for name, value in env.items() if name.endswith("_FILE"))
    for name in OURS:
        assert {"name": "secrets", "mountPath": "/etc/car/secrets", "readOnly": True} in container(name)["volumeMounts"]
        assert container(name)["envFrom"] == [{"configMapRef": {"name": "car"}}]


def test_a_worker_may_finish_its_image() -> None:
    assert pod("car-worker")["terminationGracePeriodSeconds"] >= 120
    assert container("car-worker")["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod("car-web")["terminationGracePeriodSeconds"] > GRACE_SECONDS, "requests that are being answered end first"


def kustomizations() -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in FOLDER.glob("*/kustomization.yaml"):
        yield path.parent, *documents(path)


def test_kustomizations_name_what_exists() -> None:
    assert {folder.name for folder, _ in kustomizations()} == {"base", "cpu", "keda"}
    for folder, one in kustomizations():
        assert (one["apiVersion"], one["kind"]) == ("kustomize.config.k8s.io/v1beta1", "Kustomization")
        assert all((folder / name).exists() for name in one["resources"])
        for patch in one.get("patches", ()):
            target = WORKLOADS[patch["target"]["name"]]
            assert target["kind"] == patch["target"]["kind"]
            for step in yaml.safe_load(patch["patch"]):
                assert step["op"] == "remove"
                found: Any = target
                for key in step["path"].strip("/").split("/"):
                    key = key.replace("~1", "/")
                    found = found[int(key) if isinstance(found, list) else key]
    (base,) = (one for folder, one in kustomizations() if folder.name == "base")
    assert {f"{name}" for name in base["resources"]} == {
        path.name for path in (FOLDER / "base").glob("*.yaml") if path.name != "kustomization.yaml"
    }
    assert {one["name"] for one in base["images"]} == {container(name)["image"] for name in OURS}
    assert base["configMapGenerator"] == [{"name": "car", "envs": ["settings.env"]}]


@pytest.fixture(scope="module")
def keda() -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in documents(FOLDER / "keda" / "scaledobject.yaml")}


def test_keda_scales_the_worker(keda: dict[str, dict[str, Any]]) -> None:
    scaled, authentication = keda["ScaledObject"], keda["TriggerAuthentication"]
    assert scaled["apiVersion"] == authentication["apiVersion"] == "keda.sh/v1alpha1"
    assert scaled["spec"].keys() == {
        "scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval", "cooldownPeriod", "triggers"
    }  # fmt: skip
    assert scaled["spec"]["scaleTargetRef"] == {"name": "car-worker"}
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["type"] == "redis"
    assert all(isinstance(value, str) for value in trigger["metadata"].values()), "KEDA takes strings only"
    assert trigger["metadata"].keys() == {"address", "databaseIndex", "listName", "listLength"}
    assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
    (reference,) = authentication["spec"]["secretTargetRef"]
    (secret,) = of_kind("Secret").values()
    assert reference["name"] == secret["metadata"]["name"]
    assert reference["key"] in secret["stringData"]
    assert trigger["metadata"]["address"].startswith("redis.")


def test_what_keda_watches_is_what_waits_and_runs(
    keda: dict[str, dict[str, Any]], redis: Redis, jobs: Jobs, job: Job
) -> None:
    (trigger,) = keda["ScaledObject"]["spec"]["triggers"]
    key = trigger["metadata"]["listName"]

    def watched() -> int:
        return int(redis.eval(KEDA_ASKS, 1, key))  # type: ignore[arg-type]

    def waiting() -> int:
        return sum(queue.count for queue in jobs.queues.values())

    assert watched() == waiting() == 0
    ids = []
    for number in range(12):
        one = replace(job, project=1 + number % 3, task=number)
        jobs.request(one, store.BATCH if number % 2 else store.INTERACTIVE)
        ids.append(jobs.id_of(one))
    assert watched() == waiting() == 12

    # A worker takes two: they wait no more, and are watched until they are done.
    for _ in range(2):
        taken = TakingQueue.dequeue_any(list(jobs.queues.values()), None, redis)
        assert taken is not None
        jobs.start(taken[0].id)
        ids.remove(taken[0].id)
        ids.insert(0, taken[0].id)
    assert (watched(), waiting()) == (12, 10)
    jobs.finish(ids[0], {"result": []}, [])
    jobs.fail(ids[1], "the image is gone (404)")
    assert watched() == waiting() == 10
