"""`prelabel` against the real Label Studio: tasks that were there before, a sample, other words, older predictions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from backend import store
from backend.local.demo_project import Scenes
from backend.queue import queues
from backend.studio.client import TaskFilter
from tests.e2e.support import Backend, LabelStudio, Project, eventually, run_command

NewProject = Callable[..., Project]
LABELS = ("moai", "tokyo tower")


def prelabel(backend: Backend, studio: LabelStudio, project: Project, *options: str) -> tuple[int, str]:
    """(exit code, what it printed)."""
    asked = ("prelabel", "--project", str(project.id), *options)
    done = run_command(*asked, studio=studio, backend=backend, timeout=400, CAR_PRESET="demo")
    return done.returncode, done.stdout + done.stderr


def told(output: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
    return found


def versions(project: Project) -> list[list[str]]:
    return [[one["model_version"] for one in stored] for stored in project.predictions().values()]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_project_that_was_there_before_is_tried_done_and_refreshed(
    backend: Backend, label_studio: LabelStudio, new_project: NewProject, scenes: Scenes, tmp_path: Path
) -> None:
    project = new_project(labels=LABELS)  # not connected: nobody tells the backend of its tasks
    project.add_images(scenes.images[:3])
    html = tmp_path / "sample.html"
    code, output = prelabel(backend, label_studio, project, "--sample", "2", "--html", str(html))
    assert code == 0, output
    assert versions(project) == [[], [], []]
    assert html.read_text().count("data:image/jpeg") == 2

    code, output = prelabel(backend, label_studio, project, "--json")
    assert code == 0, output
    (first,) = set(map(tuple, versions(project)))
    assert (told(output)["done"], told(output)["version"]) == (3, first[0])
    assert told(prelabel(backend, label_studio, project, "--json")[1])["todo"] == 0

    task = project.tasks()[0]["id"]
    hand_made = {"model_version": "by hand", "result": [], "score": 0.0}
    project.studio.create_prediction(task, hand_made)
    begun = {"result": [], "parent_prediction": project.studio.predictions(task)[0]["id"]}
    project.studio.session.send("POST", f"/api/tasks/{task}/annotations/", json=begun)
    options = ("--threshold", "moai=0.35", "--write-config", "--refresh", "--json")
    code, output = prelabel(backend, label_studio, project, *options)
    assert code == 0, output
    second = told(output)["version"]
    assert 'model_score_threshold="0.35"' in (project.studio.project(project.id) or {})["label_config"]
    stored = versions(project)
    assert sorted(stored[0]) == sorted([*first, second, "by hand"]), "an annotation began with the first"
    assert stored[1:] == [[second], [second]]
    assert told(output)["replaced"] == 2
    code, output = prelabel(backend, label_studio, project, "--only-unlabelled", "--dry-run", "--json")
    assert (told(output)["total"], told(output)["todo"]) == (2, 0)


def test_tasks_are_found_by_what_they_lack_and_hold(label_studio: LabelStudio, new_project: NewProject) -> None:
    project = new_project(labels=LABELS)
    project.studio.import_tasks(project.id, [{"image": f"http://images.test/{number}.png"} for number in range(5)])
    ids = [task["id"] for task in project.tasks()]
    for number, version in ((0, "car-a"), (1, "car-a"), (1, "car-b"), (2, "another")):
        project.studio.create_prediction(ids[number], {"result": [], "score": 0.0, "model_version": version})

    def found(which: TaskFilter) -> list[int]:
        listed = [ids.index(task["id"]) for task in project.studio.tasks(project.id, which=which)]
        assert project.studio.count_tasks(project.id, which) == len(listed)
        return listed

    assert found(TaskFilter(lacking="car-a")) == [2, 3, 4]
    assert found(TaskFilter(holding="car-")) == [0, 1]
    assert found(TaskFilter(lacking="car-a", holding="another")) == [2]
    (task,) = project.studio.tasks(project.id, ids[0], TaskFilter(holding="car-"))
    assert set(task["predictions_model_versions"].split(",")) == {"car-a", "car-b"}
    project.studio.session.send("POST", f"/api/tasks/{ids[4]}/annotations/", json={"result": []})
    eventually(lambda: found(TaskFilter(lacking="car-a", unlabelled=True)) == [2, 3], 20, "the count of annotations")
    assert [ids.index(task["id"]) for task in project.studio.spread_tasks(project.id, 2)] == [1, 3]
    assert len(project.studio.spread_tasks(project.id, 50)) == 5
    assert project.studio.spread_tasks(project.id, 3, TaskFilter(holding="nothing")) == []


def test_changing_the_labeling_config_cancels_what_is_queued(backend: Backend, new_project: NewProject) -> None:
    project = new_project(backend.url, labels=LABELS)
    with Redis.from_url(backend.redis_url, decode_responses=True) as redis:

        def queued() -> int:
            return sum(str(one).startswith(f"p{project.id}-") for one in redis.zrange(store.OPEN, 0, -1))

        queues.pause(redis, project.id)
        try:
            project.studio.import_tasks(project.id, [{"image": f"http://images.test/{n}.png"} for n in range(3)])
            eventually(lambda: queued() == 3, 60, "three queued tasks")
            config = (project.studio.project(project.id) or {})["label_config"]
            project.studio.update_project(project.id, label_config=config.replace("moai", "guitar"))
            eventually(lambda: queued() == 0, 60, "an empty queue")
        finally:
            queues.resume(redis, project.id)
