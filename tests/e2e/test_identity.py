"""A prediction belongs to (project, task, images): Label Studio on SQLite gives the ids of deleted tasks out again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from backend import store
from tests.e2e.sized_images import Held, SizedImages, add_addresses, await_right, held
from tests.e2e.support import Backend, LabelStudio, Project, eventually

NewProject = Callable[..., Project]
TASKS = 20


def await_open(backend: Backend, count: int) -> None:
    with Redis.from_url(backend.redis_url) as redis:
        eventually(lambda: redis.zcard(store.OPEN) == count, 30, f"{count} open jobs")


def await_quiet(backend: Backend) -> None:
    """Wait until nothing is queued, runs, or is to be delivered."""
    with Redis.from_url(backend.redis_url) as redis:
        eventually(lambda: not redis.zcard(store.OPEN) + redis.zcard(store.OUTBOX), 60, "quiet")


@pytest.mark.parametrize("is_connected", [True, False])
def test_a_new_project_gets_no_masks_of_a_deleted_one_whose_ids_it_has(
    quick_backend: Backend, new_project: NewProject, sized_images: SizedImages, is_connected: bool
) -> None:
    old = new_project(quick_backend.url)
    with quick_backend.without("worker"):
        ids = add_addresses(old, sized_images.addresses(TASKS))
        await_open(quick_backend, TASKS)
        old.studio.delete_project(old.id)
        new = new_project(quick_backend.url if is_connected else None)
        assert add_addresses(new, sized_images.addresses(TASKS)) == ids
    if is_connected:
        assert await_right(new, TASKS) == 0
    await_quiet(quick_backend)
    assert held(new) == (Held(right=TASKS) if is_connected else Held(missing=TASKS))


@pytest.mark.parametrize("stage", ["open", "delivered"])
@pytest.mark.parametrize("way", ["action", "api"])
def test_an_emptied_project_that_is_filled_again_gets_the_new_masks(
    quick_backend: Backend,
    label_studio: LabelStudio,
    new_project: NewProject,
    sized_images: SizedImages,
    way: str,
    stage: str,
) -> None:
    project = new_project(quick_backend.url)

    def fill_again(ids: list[int]) -> None:
        if way == "action":
            label_studio.delete_tasks(project.id)
        else:  # of this Label Studio 1.23 sends no webhook
            project.studio.session.send("DELETE", f"/api/projects/{project.id}/tasks/")
        assert add_addresses(project, sized_images.addresses(TASKS)) == ids

    if stage == "open":
        with quick_backend.without("worker"):
            ids = add_addresses(project, sized_images.addresses(TASKS))
            await_open(quick_backend, TASKS)
            fill_again(ids)
    else:
        ids = add_addresses(project, sized_images.addresses(TASKS))
        await_right(project, TASKS)
        fill_again(ids)
    assert await_right(project, TASKS) == 0


@pytest.mark.parametrize("stage", ["open", "delivered"])
def test_tasks_that_are_given_other_images_get_their_masks(
    quick_backend: Backend, new_project: NewProject, sized_images: SizedImages, stage: str
) -> None:
    project = new_project(quick_backend.url)

    def replace_images(ids: list[int]) -> None:
        for task, address in zip(ids, sized_images.addresses(TASKS), strict=True):
            body = {"data": {"image": address}}
            project.studio.session.send("PATCH", f"/api/tasks/{task}/", json=body)

    if stage == "open":
        with quick_backend.without("worker"):
            ids = add_addresses(project, sized_images.addresses(TASKS))
            await_open(quick_backend, TASKS)
            replace_images(ids)
        assert await_right(project, TASKS) == 0
    else:
        ids = add_addresses(project, sized_images.addresses(TASKS))
        await_right(project, TASKS)
        replace_images(ids)
        await_right(project, TASKS)
    await_quiet(quick_backend)
    assert held(project) == Held(right=TASKS)
