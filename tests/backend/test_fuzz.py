"""Whatever is sent: no route answers 500, no stored webhook stops the courier, no config raises but ConfigError."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis import Redis

from backend import store
from backend.app import create_app
from backend.labeling.parsing import ConfigError, parse_config
from backend.predict import Predictor
from backend.settings import Settings
from backend.webhooks import Webhooks
from tests.backend.conftest import CONFIG

usual = hypothesis_settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


def like(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A dict with these fields, each of them missing or of any other kind at times."""
    return st.fixed_dictionaries({}, optional={name: right | values for name, right in fields.items()})


attributes = ("name", "toName", "value", "alias", "predicted_values", "model_score_threshold", "car_preset")
tags = st.builds(
    lambda name, given, inner: f"<{name} {given}>{inner}</{name}>",
    st.sampled_from(["View", "Image", "BrushLabels", "Label", "x"]),
    st.lists(
        st.builds(
            lambda name, text: f'{name}="{text}"',
            st.sampled_from(attributes),
            st.sampled_from(["", "image", "$image", "$", "mask", "0.5", "nan", "1e999", "demo", "voc", ",", "a" * 99]),
        ),
        max_size=4,
        unique_by=lambda attribute: attribute.split("=")[0],
    ).map(" ".join),
    st.sampled_from(["", '<Label value="a"/>', '<Image name="image" value="$image"/>', "text", "&amp;"]),
)
configs = (
    st.just(CONFIG)
    | st.text(max_size=40)
    | tags
    | st.lists(tags, max_size=4).map(lambda inner: f"<View>{''.join(inner)}</View>")
)
tasks = st.lists(
    like(
        id=st.integers(0, 9),
        data=like(image=st.sampled_from(["/data/upload/1/a.png", "", "http://x/y.png"])),
        predictions=st.lists(like(model_version=st.text(max_size=5)), max_size=2),
    ),
    max_size=3,
)
projects = st.sampled_from(["1.17", "2", ""])
predict_bodies = like(tasks=tasks, project=projects, label_config=configs, params=values)
setup_bodies = like(project=projects, schema=configs, hostname=st.text(), access_token=st.text())
webhook_bodies = like(
    action=st.sampled_from(["TASKS_CREATED", "ANNOTATION_CREATED", "PROJECT_UPDATED"]),
    tasks=tasks,
    project=like(id=st.integers(0, 9), label_config=configs),
)
routes = (
    st.tuples(st.just("/predict"), predict_bodies)
    | st.tuples(st.just("/setup"), setup_bodies)
    | st.tuples(st.just("/webhook"), webhook_bodies)
    | st.tuples(st.sampled_from(["/predict", "/setup", "/webhook"]), values)
)


@pytest.fixture
def client(settings: Settings) -> FlaskClient:
    return create_app(settings.model_copy(update={"car_wait": 0.0})).test_client()


@usual
@given(routes)
def test_no_body_breaks_a_route(client: FlaskClient, asked: tuple[str, Any]) -> None:
    path, body = asked
    answer = client.post(path, data=json.dumps(body), content_type="application/json")
    assert answer.status_code in (200, 201, 400), (path, body, answer.text)
    assert answer.is_json
    if path == "/predict" and answer.status_code == 200:
        assert len(answer.json["results"]) == len(body["tasks"])


@usual
@given(st.sampled_from(["/predict", "/setup", "/webhook"]), st.binary(max_size=200))
def test_no_bytes_break_a_route(client: FlaskClient, path: str, body: bytes) -> None:
    assert client.post(path, data=body, content_type="application/json").status_code in (200, 201, 400)


@usual
@given(st.lists(st.binary(max_size=60) | webhook_bodies.map(lambda body: json.dumps(body).encode()), max_size=3))
def test_no_stored_webhook_stops_the_courier(redis: Redis, settings: Settings, bodies: list[bytes]) -> None:
    for body in bodies:
        redis.lpush(store.INBOX, body)
    reader = Webhooks(redis, settings, Predictor(settings))
    while reader.read_one():
        pass
    assert redis.llen(store.INBOX) == redis.llen(store.READING) == 0


@usual
@given(configs)
def test_a_config_is_read_or_refused(text: str) -> None:
    with suppress(ConfigError):
        config = parse_config(text, "demo")
        assert config.labels
        assert config.version().startswith("car-")
