from __future__ import annotations

import pytest

from backend.settings import SettingsError, load_settings


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
