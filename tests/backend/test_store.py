"""The connection to Redis: encrypted where asked for, and its password never shown."""

from __future__ import annotations

import pytest
from redis import SSLConnection

from backend import store
from backend.app import create_app
from backend.settings import Settings
from tests.conftest import RedisProcess


@pytest.mark.parametrize("patient", [True, False])
def test_rediss_means_tls_with_a_certificate_that_is_checked(patient: bool) -> None:
    pool = store.connect("rediss://:secret@redis.example:6380/2", patient=patient).connection_pool
    assert issubclass(pool.connection_class, SSLConnection)
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
