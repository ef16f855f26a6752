"""Connected projects come to hold what they should, whatever was missed, lost or taken away."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from backend import store
from backend.connections import Connection, Connections, webhook_problems
from backend.convergence import Compared, Convergence
from backend.local.demo_project import BACKEND_TITLE
from backend.queue import queues
from backend.reconcile import reconciler_of
from backend.settings import Settings
from backend.studio.client import SECRET_HEADER, Studio, StudioError, secret_of
from tests.e2e.conftest import QUICK
from tests.e2e.sized_images import Held, SizedImages, add_addresses, await_right, held
from tests.e2e.support import Backend, LabelStudio, Project, eventually, run_command
from tests.weights import CLIP

NewProject = Callable[..., Project]
TASKS = 20
OLD_TASKS = 300
REQUESTS_WHEN_SETTLED = 5
"""The project, its backends, its webhooks, tasks that lack a prediction, the newest change."""


def await_connected(backend: Backend, project: Project) -> None:
    """Wait until the courier knows that a project is connected."""
    with Redis.from_url(backend.redis_url) as redis:
        eventually(lambda: redis.hexists(store.CONNECTED, str(project.id)), 30, "the connection")


def await_comparison(backend: Backend, project: Project) -> None:
    """Wait until a comparison of a project that begins from now on is over."""
    with Redis.from_url(backend.redis_url) as redis:
        for _ in range(2):  # the first one may have begun before
            redis.hdel(store.WATERMARKS, str(project.id))
            redis.zadd(store.CONVERGE_DUE, {str(project.id): 0})
            eventually(lambda: redis.hexists(store.WATERMARKS, str(project.id)), 30, "the end of a comparison")


def jobs_of(backend: Backend, project: Project) -> int:
    """How many jobs of a project were ever asked for."""
    with Redis.from_url(backend.redis_url) as redis:
        return len(redis.keys(store.ticket_key(f"p{project.id}-*")))


@pytest.mark.parametrize("away", [("backend",), ("backend", "courier", "worker")])
def test_what_was_imported_while_the_backend_was_away(
    quick_backend: Backend, new_project: NewProject, sized_images: SizedImages, away: tuple[str, ...]
) -> None:
    project = new_project(quick_backend.url)
    with quick_backend.without(*away):
        add_addresses(project, sized_images.addresses(TASKS))
    await_right(project, TASKS)


def test_a_webhook_that_was_deleted_is_made_again(
    quick_backend: Backend, new_project: NewProject, sized_images: SizedImages
) -> None:
    project = new_project(quick_backend.url)
    await_connected(quick_backend, project)
    with quick_backend.without("courier"):
        assert project.studio.remove_webhooks(project.id, [quick_backend.url]) == 1
        add_addresses(project, sized_images.addresses(TASKS))
    await_right(project, TASKS)
    assert [one["url"] for one in project.studio.webhooks(project.id)] == [f"{quick_backend.url}/webhook"]


def test_redis_that_lost_its_memory_costs_nothing_but_time(
    quick_backend: Backend, new_project: NewProject, sized_images: SizedImages
) -> None:
    project = new_project(quick_backend.url)
    add_addresses(project, sized_images.addresses(TASKS))
    await_right(project, TASKS)
    with quick_backend.without("worker"), Redis.from_url(quick_backend.redis_url) as redis:
        add_addresses(project, sized_images.addresses(TASKS))
        eventually(lambda: redis.zcard(store.OPEN) == TASKS, 30, "open jobs")
        redis.flushall()
    await_right(project, 2 * TASKS)
    await_comparison(quick_backend, project)
    assert held(project) == Held(right=2 * TASKS)
    version = project.studio.predictions(project.tasks()[0]["id"])[0]["model_version"]
    with Redis.from_url(quick_backend.redis_url) as redis:
        assert redis.hlen(store.held_key(project.id, version)) == 2 * TASKS, "known again, so that none is read whole"


def test_tasks_from_before_the_connection_are_left_to_prelabel(
    quick_backend: Backend, new_project: NewProject, label_studio: LabelStudio, sized_images: SizedImages
) -> None:
    project = new_project()
    add_addresses(project, [f"http://images.test/{number}.png" for number in range(OLD_TASKS)])
    label_studio.studio.connect_backend(project.id, quick_backend.url, BACKEND_TITLE)
    await_connected(quick_backend, project)
    await_comparison(quick_backend, project)
    assert jobs_of(quick_backend, project) == 0
    add_addresses(project, sized_images.addresses(1))
    newest = project.tasks()[-1]["id"]
    eventually(lambda: project.studio.predictions(newest), 30, "the prediction of a new task")
    assert jobs_of(quick_backend, project) == 1


def test_a_settled_project_costs_a_few_requests(
    quick_backend: Backend,
    new_project: NewProject,
    label_studio: LabelStudio,
    sized_images: SizedImages,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = new_project(quick_backend.url)
    add_addresses(project, sized_images.addresses(TASKS))
    await_right(project, TASKS)
    studio = Studio(label_studio.url, label_studio.account.token)
    asked: list[str] = []
    respond = studio.session.respond

    def counted(method: str, path: str, **options: Any) -> Any:
        asked.append(f"{method} {path}")
        return respond(method, path, **options)

    monkeypatch.setattr(studio.session, "respond", counted)
    settings = Settings(redis_url=quick_backend.redis_url, car_preset="demo", car_weights=str(CLIP))
    with quick_backend.without("courier"), Redis.from_url(quick_backend.redis_url) as redis:
        connections = Connections(redis, settings, studio)
        convergence = Convergence(redis, settings, studio, connections, reconciler_of(redis, settings, studio))
        for _ in range(2):  # until the newest change is the same as before
            assert convergence.converge(project.id).asked == 0
        asked.clear()
        assert convergence.converge(project.id) == Compared()
    assert len(asked) == REQUESTS_WHEN_SETTLED, asked


def test_a_model_that_is_disconnected_hears_of_no_import(
    quick_backend: Backend, new_project: NewProject, sized_images: SizedImages
) -> None:
    project = new_project(quick_backend.url)
    await_connected(quick_backend, project)
    (backend,) = project.studio.backends(project.id)
    project.studio.disconnect_backend(backend["id"])
    assert project.studio.webhooks(project.id), "Label Studio 1.23 leaves it behind"
    add_addresses(project, sized_images.addresses(TASKS))
    eventually(lambda: not project.studio.webhooks(project.id), 30, "a removed webhook")
    with Redis.from_url(quick_backend.redis_url) as redis:
        eventually(lambda: not redis.llen(store.INBOX) + redis.llen(store.READING), 30, "an empty inbox")
        assert not redis.hexists(store.CONNECTED, str(project.id))
    assert (held(project), jobs_of(quick_backend, project)) == (Held(missing=TASKS), 0)


def test_a_model_that_label_studio_does_not_reach_just_now_stays_connected(
    quick_backend: Backend, new_project: NewProject, label_studio: LabelStudio
) -> None:
    project = new_project(quick_backend.url)
    await_connected(quick_backend, project)
    with quick_backend.without("courier", "backend"), Redis.from_url(quick_backend.redis_url) as redis:
        connections = Connections(redis, Settings(), label_studio.studio)
        known = connections.of(project.id)
        assert known is not None
        assert connections.look(project.id) == known
        redis.hdel(store.CONNECTED, str(project.id))
        assert connections.look(project.id) == known
        project.studio.disconnect_backend(known.backend)
        assert connections.look(project.id) is None
    assert project.studio.webhooks(project.id) == []


def test_a_host_without_a_dot_gets_no_webhook_and_says_so(
    redis_url: str, new_project: NewProject, label_studio: LabelStudio
) -> None:
    project, url = new_project(), "http://backend:9090"
    with pytest.raises(StudioError, match="Enter a valid URL") as caught:
        label_studio.studio.ensure_webhook(project.id, url)
    assert caught.value.status == 400
    connection = Connection(project.id, 1, url, "2026-01-01T00:00:00.000000Z", 1)
    with Redis.from_url(redis_url) as redis:
        problem = Connections(redis, Settings(), label_studio.studio).ensure_webhook(connection)
        assert re.search("http://backend:9090.*http://backend.car.internal:9090", problem)
        assert webhook_problems(redis) == {project.id: problem}


def test_a_password_gets_into_the_webhook_by_itself(
    new_backend: Callable[..., Backend], new_project: NewProject, sized_images: SizedImages
) -> None:
    user, password = "me", "secret"
    guarded = new_backend(latency=0.02, BASIC_AUTH_USER=user, BASIC_AUTH_PASS=password, **QUICK)
    project = new_project()
    body = {"project": project.id, "url": guarded.url, "title": "As in the settings of a project"}
    body |= {"auth_method": "BASIC_AUTH", "basic_auth_user": user, "basic_auth_pass": password}
    project.studio.session.send("POST", "/api/ml/", json=body, timeout=60)

    def headers() -> list[dict[str, str]]:
        return [one["headers"] for one in project.studio.webhooks(project.id)]

    eventually(lambda: headers() == [{SECRET_HEADER: secret_of((user, password))}], 10, "the secret")
    add_addresses(project, sized_images.addresses(3))
    await_right(project, 3)


def test_tasks_whose_queue_was_emptied_are_not_asked_for_again(
    quick_backend: Backend, label_studio: LabelStudio, new_project: NewProject, sized_images: SizedImages
) -> None:
    project = new_project(quick_backend.url)
    with Redis.from_url(quick_backend.redis_url) as redis:
        queues.pause(redis, project.id)
        add_addresses(project, sized_images.addresses(TASKS))
        eventually(lambda: redis.zcard(store.OPEN) == TASKS, 30, "open jobs")
        done = run_command("cancel", "--project", str(project.id), studio=label_studio, backend=quick_backend)
        assert f"{TASKS} queued tasks are cancelled" in done.stdout, done.stderr
        queues.resume(redis, project.id)
        await_comparison(quick_backend, project)
        assert redis.zcard(store.OPEN) == 0
    assert held(project) == Held(missing=TASKS)
    add_addresses(project, sized_images.addresses(1))
    newest = project.tasks()[-1]["id"]
    eventually(lambda: project.studio.predictions(newest), 30, "the prediction of a later import")
    assert held(project) == Held(missing=TASKS, right=1)
