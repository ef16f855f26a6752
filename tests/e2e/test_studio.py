"""The client against the real Label Studio: every call does there what its docstring says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backend.local.demo_project import Scenes
from backend.reconcile import read_tasks
from backend.studio.client import SECRET_HEADER, Studio, StudioError, StudioUnavailable, TaskFilter, secret_of
from tests.e2e.support import Backend, LabelStudio, Project, eventually

NEVER = 99_999_999


@pytest.fixture
def project(new_project: Callable[..., Project], scenes: Scenes) -> Project:
    project = new_project(title="Client")
    project.add_images(scenes.images[:3])
    return project


@pytest.fixture
def studio(label_studio: LabelStudio) -> Studio:
    return label_studio.studio


@pytest.fixture(scope="module")
def personal_access_token(label_studio: LabelStudio) -> str:
    return label_studio.new_personal_access_token()


def prediction(**more: Any) -> dict[str, Any]:
    return {"result": [], "score": 0.5, "model_version": "v1", **more}


def test_tasks(studio: Studio, project: Project) -> None:
    assert studio.import_tasks(project.id, [{"image": "http://host/a.png"}, {"data": {"image": "s3://b/c.png"}}]) == 2
    tasks = project.tasks()
    ids = [task["id"] for task in tasks]
    assert ids == sorted(ids)
    assert tasks[0]["data"]["image"].startswith(f"/data/upload/{project.id}/")
    assert [task["data"]["image"] for task in tasks[3:]] == ["http://host/a.png", "s3://b/c.png"]
    assert [task["id"] for task in studio.tasks(project.id, after=ids[1])] == ids[2:]


def test_a_task(studio: Studio, project: Project) -> None:
    task = project.tasks()[0]["id"]
    studio.create_prediction(task, prediction())
    for found in (studio.task(task), studio.task(task, project.id)):
        assert found is not None
        assert found["id"] == task
        assert [one["model_version"] for one in found["predictions"]] == ["v1"]
    assert studio.task_exists(task)
    assert set(read_tasks(studio, project.id, [task, NEVER]) or ()) == {task}
    assert studio.delete_task(task)
    assert read_tasks(studio, project.id, [task]) == {}
    assert not studio.delete_task(task)
    assert not studio.task_exists(task)
    assert studio.task(task) is None
    assert studio.task(task, project.id) is None


def test_tasks_of_a_project(studio: Studio, project: Project, new_project: Callable[..., Project]) -> None:
    first, second, third = (task["id"] for task in project.tasks())
    studio.create_prediction(second, prediction())
    found = read_tasks(studio, project.id, [third, second, second], whole=True) or {}
    assert {task: len(found[task]["predictions"]) for task in found} == {second: 1, third: 0}
    assert read_tasks(studio, new_project().id, [first]) == {}
    assert read_tasks(studio, NEVER, [first]) is None


def test_a_task_with_several_predictions_is_listed_once(studio: Studio, project: Project) -> None:
    first, *_ = (task["id"] for task in project.tasks())
    for version in ("car-a", "car-b"):
        studio.create_prediction(first, {**prediction(), "model_version": version})
    assert [task["id"] for task in studio.tasks_beyond(project.id, 0, TaskFilter(holding="car-"))] == [first]


def test_when_tasks_were_created_and_changed(
    studio: Studio, project: Project, new_project: Callable[..., Project], scenes: Scenes
) -> None:
    ids = [task["id"] for task in project.tasks()]
    before = studio.newest_change(project.id)
    assert before == max(task["updated_at"] for task in project.tasks())
    later = project.add_images(scenes.images[3:4])

    def found(**which: str) -> list[int]:
        return [task["id"] for task in studio.tasks(project.id, which=TaskFilter(**which))]

    assert found(created_after=before) == found(updated_after=before) == later
    studio.session.send("PATCH", f"/api/tasks/{ids[1]}/", json={"data": {"image": "http://host/other.png"}})
    assert (found(created_after=before), found(updated_after=before)) == (later, [ids[1], *later])
    newest = studio.newest_change(project.id)
    assert newest > before
    assert found(updated_after=newest) == []
    assert studio.newest_change(new_project().id) == ""


def test_webhooks(studio: Studio, project: Project) -> None:
    url, auth = "http://127.0.0.1:9", ("me", "secret")
    assert studio.ensure_webhook(project.id, url)
    assert not studio.ensure_webhook(project.id, url, auth)
    (found,) = studio.webhooks(project.id)
    assert (found["url"], found["headers"]) == (f"{url}/webhook", {SECRET_HEADER: secret_of(auth)})
    assert (found["send_payload"], found["send_for_all_actions"], found["is_active"]) == (True, True, True)
    assert studio.remove_webhooks(project.id, ["http://127.0.0.1:10"]) == 0
    assert studio.remove_webhooks(project.id, [url, f"{url}/"]) == 1
    assert studio.webhooks(project.id) == []
    with pytest.raises(StudioError, match="reserved network address") as caught:
        studio.ensure_webhook(project.id, "http://169.254.169.254")
    assert caught.value.status == 403
    with pytest.raises(StudioError, match="not one of the available choices") as caught:
        studio.webhooks(NEVER)
    assert caught.value.status == 400


def test_paging(studio: Studio, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.studio.client.PAGE", 2)
    ids = [task["id"] for task in project.tasks()]
    assert len(ids) == len(set(ids)) == 3
    assert project.id in [one["id"] for one in studio.projects()]


def test_predictions(studio: Studio, project: Project) -> None:
    first, second, third = (task["id"] for task in project.tasks())
    assert studio.create_prediction(first, prediction(score=0.25))
    assert studio.import_predictions(project.id, [prediction(task=second), prediction(task=third)]) == 2
    assert project.counts() == [1, 1, 1]
    (stored,) = studio.predictions(first)
    assert (stored["score"], stored["model_version"], stored["result"]) == (0.25, "v1", [])
    assert studio.delete_prediction(stored["id"])
    assert not studio.delete_prediction(stored["id"])
    assert studio.predictions(first) == []


def test_predictions_of_a_task_that_is_gone(studio: Studio, project: Project) -> None:
    first = project.tasks()[0]["id"]
    assert studio.predictions(NEVER) == []
    assert studio.create_prediction(NEVER, prediction()) is False
    with pytest.raises(StudioError, match=r"400.*corresponding task ID") as caught:
        studio.import_predictions(project.id, [prediction(task=first), prediction(task=NEVER)])
    assert not isinstance(caught.value, StudioUnavailable)
    assert studio.predictions(first) == []


def test_a_region_that_does_not_fit_is_counted_out(studio: Studio, project: Project) -> None:
    region = {"from_name": "nobody", "to_name": "image", "type": "brushlabels", "value": {}}
    task = project.tasks()[0]["id"]
    assert studio.import_predictions(project.id, [prediction(task=task, result=[region])]) == 0


def test_projects(studio: Studio, project: Project) -> None:
    found = studio.project(project.id)
    assert found is not None
    assert (found["title"], found["task_number"]) == ("Client", 3)
    studio.update_project(project.id, title="Renamed")
    assert (studio.project(project.id) or {})["title"] == "Renamed"
    assert studio.project(NEVER) is None
    assert studio.delete_project(NEVER) is False
    with pytest.raises(StudioError, match="at least 3 characters"):
        studio.create_project("x", "<View/>")


def test_connecting(studio: Studio, project: Project, backend: Backend) -> None:
    connected = studio.connect_backend(project.id, backend.url, "Ours")
    (found,) = studio.backends(project.id)
    assert (found["id"], found["url"], found["state"]) == (connected, backend.url, "CO")
    assert [hook["url"] for hook in studio.webhooks(project.id)] == [f"{backend.url}/webhook"]
    other = backend.url.replace("127.0.0.1", "localhost")
    studio.move_backend(project.id, connected, other)
    assert [one["url"] for one in studio.backends(project.id)] == [other]
    assert [hook["url"] for hook in studio.webhooks(project.id)] == [f"{other}/webhook"]
    assert studio.disconnect_backend(connected)
    assert studio.backends(project.id) == []


def test_connecting_what_is_not_there_or_not_allowed(studio: Studio, project: Project) -> None:
    with pytest.raises(StudioError, match="health check failed"):
        studio.connect_backend(project.id, "http://127.0.0.1:9", "Nobody")
    # Of the networks that Label Studio bans, `make run` opens the loopback and no other.
    with pytest.raises(StudioError, match="reserved network address"):
        studio.connect_backend(project.id, "http://169.254.169.254", "Metadata")
    assert studio.backends(project.id) == []


def test_a_backend_with_a_password(
    studio: Studio, project: Project, new_backend: Callable[..., Backend], scenes: Scenes
) -> None:
    guarded = new_backend(BASIC_AUTH_USER="me", BASIC_AUTH_PASS="secret")
    with pytest.raises(StudioError, match=r"401|authentication"):
        studio.connect_backend(project.id, guarded.url, "Guarded")
    studio.connect_backend(project.id, guarded.url, "Guarded", ("me", "secret"))
    assert [one["state"] for one in studio.backends(project.id)] == ["CO"]
    (task,) = project.add_images(scenes.images[3:4])
    # Only the webhook tells of it: nobody opens the task.
    eventually(lambda: studio.predictions(task), 120, "a prediction of the guarded backend")


def test_personal_access_token(label_studio: LabelStudio, personal_access_token: str) -> None:
    studio = Studio(label_studio.url, personal_access_token)
    assert studio.user()["email"] == label_studio.account.email
    assert studio.authorization()["Authorization"].startswith("Bearer ")


def test_tokens_that_are_refused(label_studio: LabelStudio) -> None:
    with pytest.raises(StudioError, match="Invalid token"):
        Studio(label_studio.url, "0" * 40).user()
    first = label_studio.new_personal_access_token()
    label_studio.new_personal_access_token()
    with pytest.raises(StudioError, match="doesn't accept the personal access token"):
        Studio(label_studio.url, first).user()


def test_a_legacy_token_where_they_are_switched_off(label_studio: LabelStudio) -> None:
    with label_studio.logged_in() as session:
        settings = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": False}
        session.post(f"{label_studio.url}/api/jwt/settings", json=settings, timeout=30).raise_for_status()
        try:
            with pytest.raises(StudioError, match="has switched legacy tokens off"):
                label_studio.studio.user()
        finally:
            settings["legacy_api_tokens_enabled"] = True
            session.post(f"{label_studio.url}/api/jwt/settings", json=settings, timeout=30).raise_for_status()


def test_an_address_that_is_not_label_studio(label_studio: LabelStudio, backend: Backend) -> None:
    with pytest.raises(StudioError, match="404"):
        Studio(backend.url, label_studio.account.token).user()
