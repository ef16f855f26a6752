from __future__ import annotations

import base64
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from flask.testing import FlaskClient
from label_studio_ml.model import LabelStudioMLBase
from redis import Redis

from backend import store
from backend.app import CarBackend, create_app, project_number
from backend.settings import Settings
from backend.trouble import REFUSALS
from tests.backend.conftest import CONFIG, task
from tests.backend.refusing import WAYS
from tests.conftest import RedisProcess


@pytest.fixture
def client(settings: Settings) -> FlaskClient:
    return create_app(settings).test_client()


def body(*tasks: dict[str, Any], config: str = CONFIG) -> dict[str, Any]:
    return {"tasks": list(tasks), "project": "1.1795154356", "label_config": config, "params": {"context": None}}


def test_setup_answers_the_version_that_predictions_carry(client: FlaskClient) -> None:
    answer = client.post("/setup", json={"project": "1.1", "schema": CONFIG, "access_token": "t", "extra_params": {}})
    assert answer.status_code == 200
    version = answer.json["model_version"]
    assert version.startswith("car-demo-")
    assert client.get("/versions").json == {"versions": [version]}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("<View/>", "no <Image>"),
        ('<View><Image name="i" value="$i"/></View>', "no <BrushLabels>"),
        ("<View", "not well-formed"),
        ("", "not well-formed"),
    ],
)
def test_setup_names_what_a_config_lacks_and_predict_stays_calm(client: FlaskClient, config: str, words: str) -> None:
    answer = client.post("/setup", json={"project": "1.1", "schema": config})
    assert (answer.status_code, words in answer.json["error"]) == (400, True)
    answer = client.post("/predict", json=body(task(1), task(2), config=config))
    assert (answer.status_code, answer.json) == (200, {"results": [[], []]})


def test_predict_answers_each_task(client: FlaskClient) -> None:
    answer = client.post("/predict", json=body(task(1), task(2), task(3)))
    assert (answer.status_code, answer.json) == (200, {"results": [[], [], []]})


def test_webhook_is_stored_as_it_came(client: FlaskClient, redis: Redis) -> None:
    event = b'{"action": "TASKS_CREATED", "tasks": [{"id": 1}]}'
    assert client.post("/webhook", data=event, content_type="application/json").status_code == 201
    assert redis.lrange(store.INBOX, 0, -1) == [event]


@pytest.mark.parametrize(
    ("method", "path", "data", "status"),
    [
        ("GET", "/health", None, 200),
        ("GET", "/versions", None, 200),
        ("POST", "/predict", b"not json", 400),
        ("POST", "/predict", b"[]", 400),
        ("POST", "/predict", b'{"tasks": 5}', 400),
        ("POST", "/predict", b'{"tasks": [5]}', 400),
        ("POST", "/predict", b'{"tasks": []}', 200),
        ("POST", "/setup", b"null", 400),
        ("POST", "/webhook", b"", 400),
        ("GET", "/predict", None, 405),
        ("POST", "/train", b"{}", 404),
        ("GET", "/is_training", None, 404),
        ("GET", "/nowhere", None, 404),
    ],
)
def test_every_route_answers_json(client: FlaskClient, method: str, path: str, data: bytes | None, status: int) -> None:
    answer = client.open(path, method=method, data=data, content_type="application/json")
    assert answer.status_code == status
    assert answer.is_json
    assert "Traceback" not in answer.text


def basic(user: str, password: str, encoding: str = "utf-8") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode(encoding)).decode()}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (basic("ännä", "pässwörd"), 200),
        (basic("ännä", "pässwörd", "latin-1"), 200),
        (basic("ännä", "wrong"), 401),
        (basic("anna", "pässwörd"), 401),
        (basic("", ""), 401),
        ({}, 401),
        ({"Authorization": "Bearer x"}, 401),
        ({"Authorization": "Basic !!!"}, 401),
    ],
)
@pytest.mark.parametrize(
    "path", ["/", "/health", "/versions", "/webhook", "/predict", "/status.json", "/metrics", "/nowhere"]
)
def test_with_a_password_every_route_asks_for_it(
    settings: Settings, headers: dict[str, str], status: int, path: str
) -> None:
    closed = settings.model_copy(update={"basic_auth_user": "ännä", "basic_auth_pass": _secret("pässwörd")})
    answer = create_app(closed).test_client().get(path, headers=headers)
    assert (answer.status_code == 401) is (status == 401)
    assert ("WWW-Authenticate" in answer.headers) is (status == 401), "browsers then ask for it"


def _secret(text: str) -> Any:
    return Settings(basic_auth_pass=text).basic_auth_pass


def test_redis_away_and_back(own_redis: RedisProcess, settings: Settings) -> None:
    client = create_app(settings.model_copy(update={"redis_url": own_redis.url})).test_client()
    assert client.get("/health").status_code == 200
    own_redis.stop()
    assert_down(client, seconds=1.0)
    assert client.post("/setup", json={"schema": CONFIG}).status_code == 200
    assert client.post("/predict", json=body(task(1))).json == {"results": [[]]}
    assert client.post("/webhook", json={"action": "TASKS_CREATED"}).status_code == 503
    own_redis.start()
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize("code", list(WAYS))
def test_redis_refuses_writes_and_takes_them_again(own_redis: RedisProcess, settings: Settings, code: str) -> None:
    refuse, accept = WAYS[code]
    client = create_app(settings.model_copy(update={"redis_url": own_redis.url})).test_client()
    assert client.get("/health").status_code == 200
    with Redis.from_url(own_redis.url) as redis:
        assert 0 < redis.ttl(store.PROBE) <= 10
        refuse(redis)
        assert_down(client, seconds=1.0)
        for answer in (client.get("/health"), client.post("/webhook", json={"action": "TASKS_CREATED"})):
            assert answer.status_code == 503
            assert f"refuses writes ({code}" in answer.json["error"]
            assert REFUSALS[code] in answer.json["error"]
        assert client.post("/setup", json={"schema": CONFIG, "project": "1.1"}).status_code == 200
        assert client.post("/predict", json=body(task(1))).json == {"results": [[]]}
        accept(redis)
        assert client.get("/health").status_code == 200
        assert client.post("/webhook", json={"action": "TASKS_CREATED"}).status_code == 201


def test_redis_hangs(own_redis: RedisProcess, settings: Settings) -> None:
    client = create_app(settings.model_copy(update={"redis_url": own_redis.url})).test_client()
    client.get("/health")
    own_redis.signal(signal.SIGSTOP)
    try:
        assert_down(client, seconds=1.0)
        begun = time.monotonic()
        assert client.post("/predict", json=body(task(1), task(2))).json == {"results": [[], []]}
        assert time.monotonic() - begun < 3
    finally:
        own_redis.signal(signal.SIGCONT)


def assert_down(client: FlaskClient, seconds: float) -> None:
    begun = time.monotonic()
    answer = client.get("/health")
    assert (answer.status_code, answer.json["status"]) == (503, "DOWN")
    assert "REDIS_URL" in answer.json["error"]
    assert time.monotonic() - begun < seconds


def test_the_class_is_a_label_studio_ml_backend(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    model = CarBackend(project_id="3.17", label_config=CONFIG)
    assert isinstance(model, LabelStudioMLBase)
    assert model.predict([task(1), task(2)]) == [[], []]
    assert model.predictor.jobs.open_ids()[0].startswith("p3-t")


@pytest.mark.parametrize(("project", "number"), [("2.1795154356", 2), ("17", 17), ("", 0), (None, 0), ("x.1", 0)])
def test_project_number(project: str | None, number: int) -> None:
    assert project_number(project) == number


WALL = """
import sys
import backend.wsgi
heavy = ("torch", "torchvision", "open_clip", "cv2", "label_studio_sdk")
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(sorted(name for name in heavy if sys.modules.get(name)), int(peak) // 1024)
"""


def test_the_web_process_is_small_and_knows_no_torch() -> None:
    out = subprocess.run([sys.executable, "-c", WALL], capture_output=True, text=True, check=True).stdout
    heavy, _, megabytes = out.strip().rpartition(" ")
    assert heavy == "[]"
    assert int(megabytes) < 200
