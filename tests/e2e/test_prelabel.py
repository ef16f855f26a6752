"""The main job against the real Label Studio: images come in, exactly one prediction per task comes out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import requests
from PIL import Image
from redis import Redis

from backend import store
from backend.local.demo_project import Scenes
from backend.masks import brush
from backend.studio.client import StudioError
from tests.e2e.support import Backend, LabelStudio, Project, eventually

LABELS = ("moai", "tokyo tower", "firefox logo", "cat")
"""A small vocabulary keeps these tests quick; the first three are in scene 000."""

NewBackend = Callable[..., Backend]
NewProject = Callable[..., Project]


def version_of(backend: Backend, project: Project) -> str:
    schema = project.studio.project(project.id)
    assert schema is not None
    body = {"project": f"{project.id}.1", "schema": schema["label_config"]}
    return str(requests.post(f"{backend.url}/setup", json=body, timeout=5).json()["model_version"])


def versions(project: Project) -> dict[int, list[str]]:
    return {task: [one["model_version"] for one in stored] for task, stored in project.predictions().items()}


def status(backend: Backend) -> dict[str, Any]:
    command = [sys.executable, "-m", "backend", "status", "--json"]
    env = {**os.environ, "REDIS_URL": backend.redis_url}
    found: dict[str, Any] = json.loads(subprocess.run(command, env=env, capture_output=True, check=True).stdout)
    return found


def is_quiet(backend: Backend, project: Project) -> bool:
    """Nothing of the project is queued, running, or still to be delivered or verified."""
    with Redis.from_url(backend.redis_url, decode_responses=True) as redis:
        pending = [*redis.zrange(store.OPEN, 0, -1), *redis.zrange(store.OUTBOX, 0, -1)]
        return not any(str(job_id).startswith(f"p{project.id}-") for job_id in pending)


def await_quiet(backend: Backend, project: Project) -> None:
    eventually(lambda: is_quiet(backend, project), 90, f"quiet about project {project.id}")


def await_worker(backend: Backend) -> None:
    eventually(lambda: [one for one in status(backend)["worker_reports"] if one["doing"] == "idle"], 90, "a worker")


def test_an_import_is_prelabelled_without_a_click(backend: Backend, new_project: NewProject, scenes: Scenes) -> None:
    project = new_project(backend.url, labels=LABELS)
    (first, *_) = project.add_images(scenes.images[:4])
    project.await_predictions()
    assert {name for stored in versions(project).values() for name in stored} == {version_of(backend, project)}
    regions = project.predictions()[first][0]["result"]
    assert {region["value"]["brushlabels"][0] for region in regions} <= set(LABELS)
    assert len(regions) >= 2
    mask = brush.decode(regions[0]["value"]["rle"], 320, 384)
    assert set(np.unique(mask)) == {0, 255}


def test_retrieving_many_asks_for_all_and_doubles_none(
    backend: Backend, new_project: NewProject, scenes: Scenes, label_studio: LabelStudio
) -> None:
    project = new_project(labels=LABELS)
    project.add_images(scenes.images[:6])
    label_studio.studio.connect_backend(project.id, backend.url, "CaR")
    for _ in range(3):
        label_studio.retrieve_predictions(project.id)
    project.await_predictions()
    label_studio.retrieve_predictions(project.id)
    await_quiet(backend, project)
    assert set(project.counts()) == {1}


def test_an_opened_task_shows_its_mask_at_once(
    new_backend: NewBackend, new_project: NewProject, scenes: Scenes, label_studio: LabelStudio
) -> None:
    backend = new_backend(CAR_WAIT="60", CAR_VERIFY_SECONDS="2")
    project = new_project(labels=LABELS)
    (task,) = project.add_images(scenes.images[:1])
    label_studio.studio.connect_backend(project.id, backend.url, "CaR")
    await_worker(backend)
    shown = label_studio.open_task(task)
    assert [one["model_version"] for one in shown["predictions"]] == [version_of(backend, project)]
    await_quiet(backend, project)
    assert project.counts() == [1]


def test_the_label_stream_shows_the_mask(
    backend: Backend, new_project: NewProject, scenes: Scenes, label_studio: LabelStudio
) -> None:
    project = new_project(backend.url, labels=LABELS)
    project.add_images(scenes.images[:1])
    project.await_predictions()
    shown = label_studio.next_task(project.id)
    assert [one["model_version"] for one in shown["predictions"]] == [version_of(backend, project)]


def test_another_config_brings_other_predictions(
    backend: Backend, new_project: NewProject, scenes: Scenes, label_studio: LabelStudio
) -> None:
    project = new_project(backend.url, labels=LABELS)
    project.add_images(scenes.images[:2])
    project.await_predictions()
    old = version_of(backend, project)
    config = (project.studio.project(project.id) or {})["label_config"].replace('value="cat"', 'value="dog"')
    project.studio.update_project(project.id, label_config=config)
    label_studio.retrieve_predictions(project.id)
    project.await_predictions(each=2)
    assert all(sorted(names) == sorted({old, version_of(backend, project)}) for names in versions(project).values())


def test_a_personal_access_token_works_too(
    new_backend: NewBackend, new_project: NewProject, scenes: Scenes, label_studio: LabelStudio
) -> None:
    backend = new_backend(api_key=label_studio.new_personal_access_token())
    project = new_project(backend.url, labels=LABELS)
    project.add_images(scenes.images[:2])
    project.await_predictions()


def test_with_a_password_everything_works_as_without(
    new_backend: NewBackend, new_project: NewProject, scenes: Scenes, label_studio: LabelStudio
) -> None:
    auth = ("ännä", "pässwörd")
    backend = new_backend(BASIC_AUTH_USER=auth[0], BASIC_AUTH_PASS=auth[1])
    assert requests.get(f"{backend.url}/health", timeout=5).status_code == 401
    project = new_project(backend.url, labels=LABELS, auth=auth)
    eventually(lambda: label_studio.studio.webhooks(project.id)[0]["headers"], 20, "the secret on the webhook")
    project.add_images(scenes.images[:2])
    project.await_predictions()
    assert auth[1] not in str(label_studio.studio.webhooks(project.id))


def test_a_wrong_token_is_named_as_the_reason(new_backend: NewBackend, new_project: NewProject, scenes: Scenes) -> None:
    backend = new_backend(api_key="0" * 40)
    project = new_project(backend.url, labels=LABELS)
    project.add_images(scenes.images[:1])
    eventually(lambda: status(backend)["failed"], 60, "the failure")
    (failure,) = status(backend)["failures"]
    assert "LABEL_STUDIO_API_KEY" in failure["error"]


def test_bad_images_fail_alone_with_a_reason(
    new_backend: NewBackend, new_project: NewProject, scenes: Scenes, tmp_path: Path
) -> None:
    backend = new_backend(CAR_MAX_PIXELS="2000000", CAR_RETRY_SECONDS="0")
    project = new_project(backend.url, labels=LABELS)
    cut = tmp_path / "cut.png"
    cut.write_bytes(scenes.images[0].read_bytes()[:2000])
    text = tmp_path / "text.png"
    text.write_text("this is not an image")
    large = tmp_path / "large.png"
    Image.new("RGB", (2000, 1500)).save(large)
    bad = project.add_images([cut, text, large])
    project.studio.import_tasks(
        project.id,
        [
            {"image": f"/data/upload/{project.id}/missing.png"},
            {"image": "http://10.0.0.1/private.png"},
            {"image": "ftp://host/a.png"},
        ],
    )
    (good,) = project.add_images(scenes.images[:1])
    eventually(lambda: project.predictions()[good], 90, "the good task's prediction")
    eventually(lambda: status(backend)["failed"] == 6, 60, "six failures")
    reasons = {failure["task"]: failure["error"] for failure in status(backend)["failures"]}
    assert set(bad) <= set(reasons)
    assert all(len(reason) > 20 for reason in reasons.values()), reasons
    assert "2,000,000" in reasons[bad[2]] or "2000000" in reasons[bad[2]]
    assert any("10.0.0.1" in reason for reason in reasons.values())
    assert sum(map(bool, project.predictions().values())) == 1


def test_nothing_found_is_stored_once_and_not_asked_again(
    backend: Backend, new_project: NewProject, tmp_path: Path, label_studio: LabelStudio
) -> None:
    plain = tmp_path / "plain.png"
    Image.new("RGB", (320, 240), (120, 160, 90)).save(plain)
    project = new_project(backend.url, labels=LABELS)
    (task,) = project.add_images([plain])
    project.await_predictions()
    (stored,) = project.predictions()[task]
    assert (stored["result"], stored["model_version"]) == ([], version_of(backend, project))
    label_studio.open_task(task)
    label_studio.retrieve_predictions(project.id)
    await_quiet(backend, project)
    assert project.counts() == [1]


def test_deleted_predictions_come_back_from_the_cache(
    new_backend: NewBackend, new_project: NewProject, scenes: Scenes, label_studio: LabelStudio
) -> None:
    backend = new_backend(CAR_VERIFY_SECONDS="5")
    project = new_project(backend.url, labels=LABELS)
    project.add_images(scenes.images[:3])
    project.await_predictions()
    backend.stop("worker")
    for _ in range(2):
        await_quiet(backend, project)
        label_studio.delete_predictions(project.id)
        assert project.counts() == [0, 0, 0]
        label_studio.retrieve_predictions(project.id)
        project.await_predictions(30)


def test_a_deleted_task_does_not_hold_up_the_others(
    new_backend: NewBackend, new_project: NewProject, scenes: Scenes
) -> None:
    backend = new_backend()
    project = new_project(backend.url, labels=LABELS)
    backend.stop("courier")
    gone, *others = project.add_images(scenes.images[:3])
    backend.start("courier")
    eventually(lambda: status(backend)["queued"] + status(backend)["running"] == 3, 30, "three jobs")
    backend.stop("courier")
    eventually(lambda: status(backend)["in_outbox"] == 3, 90, "three masks")
    project.studio.delete_task(gone)
    backend.start("courier")
    project.await_predictions()
    await_quiet(backend, project)
    assert [task["id"] for task in project.tasks()] == others
    assert (status(backend)["delivered"], status(backend)["dropped"]) == (2, 1)


def test_label_studio_down_at_push_time(
    new_backend: NewBackend, new_project: NewProject, scenes: Scenes, label_studio: LabelStudio
) -> None:
    backend = new_backend()
    project = new_project(backend.url, labels=LABELS)
    backend.stop("worker")
    project.add_images(scenes.images[:2])
    eventually(lambda: status(backend)["queued"] == 2, 30, "two jobs")
    backend.stop("courier")
    backend.start("worker")
    eventually(lambda: status(backend)["in_outbox"] == 2, 90, "two masks")
    with label_studio.down():
        backend.start("courier")
        refused = eventually(
            lambda: [one for one in status(backend)["undelivered"] if one["reason"]], 30, "a push that failed"
        )
        assert label_studio.url in refused[0]["reason"]
    project.await_predictions(60)


def test_the_web_process_away_during_an_import_loses_nothing_that_is_asked_later(
    new_backend: NewBackend, new_project: NewProject, scenes: Scenes, label_studio: LabelStudio
) -> None:
    backend = new_backend()
    project = new_project(backend.url, labels=LABELS)
    backend.stop("backend")
    project.add_images(scenes.images[:2])
    backend.start("backend")
    label_studio.retrieve_predictions(project.id)
    project.await_predictions()


def enlarged(scene: Path, width: int, height: int) -> np.ndarray:
    image = cv2.cvtColor(cv2.imread(str(scene)), cv2.COLOR_BGR2RGB)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.slow
def test_every_kind_of_image_is_prelabelled_at_its_natural_size(
    backend: Backend, new_project: NewProject, scenes: Scenes, tmp_path: Path
) -> None:
    scene = scenes.images[0]
    photo = Image.fromarray(enlarged(scene, 8000, 6000))
    usual = Image.open(scene).convert("RGB")
    turned = usual.getexif()
    turned[0x0112] = 6  # to be turned by 90 degrees: what the browser shows is 320 wide and 384 high
    kinds: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "photo.jpg": (photo, {"quality": 80}),
        "tiny.png": (usual.resize((8, 8)), {}),
        "grey.png": (usual.convert("L"), {}),
        "palette.png": (usual.convert("P"), {}),
        "deep.png": (Image.fromarray(np.asarray(usual.convert("L"), np.uint16) * 257), {}),
        "print.jpg": (usual.convert("CMYK"), {}),
        "turned.jpg": (usual, {"exif": turned}),
    }
    paths = []
    for name, (image, options) in kinds.items():
        paths.append(tmp_path / name)
        image.save(paths[-1], **options)
    project = new_project(backend.url, labels=LABELS)
    tasks = [project.add_images([path])[0] for path in paths]
    project.await_predictions(240)
    stored = {name: project.predictions()[task][0]["result"] for name, task in zip(kinds, tasks, strict=True)}
    sizes = {
        name: {(region["original_width"], region["original_height"]) for region in regions}
        for name, regions in stored.items()
    }
    assert sizes["photo.jpg"] == {(8000, 6000)}
    assert sizes["palette.png"] == sizes["print.jpg"] == {(384, 320)}
    assert sizes["turned.jpg"] <= {(320, 384)}
    assert sizes["tiny.png"] <= {(8, 8)}
    assert sizes["grey.png"] | sizes["deep.png"] <= {(384, 320)}
    for region in stored["photo.jpg"]:
        mask = brush.decode(region["value"]["rle"], 6000, 8000)
        assert 0 < (mask > 0).mean() < 0.5


def test_five_questions_while_it_runs_are_one_job(
    new_backend: NewBackend, new_project: NewProject, scenes: Scenes, label_studio: LabelStudio
) -> None:
    backend = new_backend(CAR_WAIT="0")
    project = new_project(labels=LABELS)
    (task,) = project.add_images(scenes.images[:1])
    label_studio.studio.connect_backend(project.id, backend.url, "CaR")
    for _ in range(5):
        label_studio.open_task(task)
    now = status(backend)
    assert now["queued"] + now["running"] + now["in_outbox"] + now["delivered"] == 1
    project.await_predictions()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('<View><Image name="image" value="$image"/><KeyPointLabels name="point" toName="image"><Label value="cat"/>'
         "</KeyPointLabels></View>", "BrushLabels"),
        ('<View><Text name="text" value="$image"/><Choices name="c" toName="text"><Choice value="a"/></Choices></View>',
         "Image"),
    ],
)  # fmt: skip
def test_a_config_without_masks_says_what_is_missing(
    backend: Backend, new_project: NewProject, scenes: Scenes, label_studio: LabelStudio, config: str, words: str
) -> None:
    project = new_project(label_config=config)
    project.add_images(scenes.images[:2])
    with pytest.raises(StudioError, match=words):  # what the user reads in Label Studio
        label_studio.studio.connect_backend(project.id, backend.url, "CaR")
    body = {"tasks": project.tasks(), "project": f"{project.id}.1", "label_config": config, "params": {}}
    assert requests.post(f"{backend.url}/predict", json=body, timeout=5).json() == {"results": [[], []]}
