from __future__ import annotations

import os
from pathlib import Path

import pytest

from backend import logs
from backend.settings import SECRETS, SettingsError, load_settings


@pytest.mark.parametrize(
    ("variable", "value", "attribute", "expected"),
    [
        ("LABEL_STUDIO_URL", "https://studio.example/sub/", "label_studio_url", "https://studio.example/sub"),
        ("CAR_ALLOWED_HOSTS", "minio, 10.0.0.0/8", "car_allowed_hosts", ("minio", "10.0.0.0/8")),
        ("CAR_ALLOWED_HOSTS", "", "car_allowed_hosts", ()),
        ("CAR_RETRY_SECONDS", "1,2", "car_retry_seconds", (1, 2)),
        ("CAR_PRESET", "photos", "car_preset", "photos"),
    ],
)
def test_the_environment_is_read(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, attribute: str, expected: object
) -> None:
    monkeypatch.setenv(variable, value)
    assert getattr(load_settings(), attribute) == expected


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("LABEL_STUDIO_URL", "label-studio:8080", "http://label-studio:8080"),
        ("CAR_PRESET", "best", "there are: .*demo"),
        ("CAR_THREADS", "many", "integer"),
        ("CAR_WAIT", "-1", "greater than or equal to 0"),
        ("CAR_RETRY_SECONDS", "soon", "integer"),
    ],
)
def test_a_bad_value_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=words) as error:
        load_settings()
    assert variable in str(error.value)


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "topsecret")
    monkeypatch.setenv("BASIC_AUTH_USER", "anna")
    monkeypatch.setenv("BASIC_AUTH_PASS", "alsosecret")
    settings = load_settings()
    assert "secret" not in repr(settings)
    assert settings.auth == ("anna", "alsosecret")


@pytest.mark.parametrize(
    ("url", "password", "expected"),
    [
        ("redis://redis:6379/0", "hush", "redis://:hush@redis:6379/0"),
        ("rediss://car@redis:6379/0", "a/b@c", "rediss://car:a%2Fb%40c@redis:6379/0"),
        ("redis://:own@redis:6379/0", "hush", "redis://:own@redis:6379/0"),
        ("redis://redis:6379/0", "", "redis://redis:6379/0"),
        ("unix:///run/redis.sock", "hush", "unix:///run/redis.sock"),
    ],
)
def test_the_password_of_redis_may_come_by_itself(
    monkeypatch: pytest.MonkeyPatch, url: str, password: str, expected: str
) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    monkeypatch.setenv("REDIS_PASSWORD", password)
    assert load_settings().redis_url == expected


def test_secrets_may_come_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
        (tmp_path / name).write_text("redis://:s3cret@redis\n" if name == "REDIS_URL" else f"{name} of a file\n")
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))
    settings = load_settings()
    assert settings.label_studio_api_key.get_secret_value() == "LABEL_STUDIO_API_KEY of a file"
    assert settings.basic_auth_pass.get_secret_value() == "BASIC_AUTH_PASS of a file"
    assert settings.redis_url == "redis://:s3cret@redis"
    assert "of a file" not in repr(settings)
    assert {"LABEL_STUDIO_API_KEY of a file", "s3cret"} <= set(logs.secrets(os.environ)), "stars in the log"


def test_a_secret_that_cannot_be_read_is_said_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BASIC_AUTH_PASS", raising=False)
    monkeypatch.setenv("BASIC_AUTH_PASS_FILE", str(tmp_path / "absent"))
    with pytest.raises(SettingsError, match=r"BASIC_AUTH_PASS_FILE: cannot be read .*absent"):
        load_settings()
    (tmp_path / "absent").write_text("hush")
    monkeypatch.setenv("BASIC_AUTH_PASS", "other")
    with pytest.raises(SettingsError, match=r"BASIC_AUTH_PASS is set, too\. Unset one of them"):
        load_settings()
