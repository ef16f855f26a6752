"""What the tests of the backend have, for tests of how it is deployed."""

from tests.backend.conftest import config, job, jobs

__all__ = ["config", "job", "jobs"]
