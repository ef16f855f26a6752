"""The load runs' stub of Label Studio behaves as Label Studio 1.23 does."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from backend.images.fetcher import ImageFetcher, ImageUnavailable, decode_image
from backend.local.ports import any_free_port
from backend.masks import brush
from backend.studio.client import Studio, StudioError, StudioUnavailable
from tests.load.image_codes import CODES, code_of_image, jpeg, masks_of, photo
from tests.load.queries import Refused
from tests.load.shelf import Faults
from tests.load.stub_studio import CONFIG, HOST, LABELS, TOKEN, StubStudio


@pytest.fixture
def stub() -> Iterator[StubStudio]:
    """With one project and two tasks, 1 and 2."""
    studio = StubStudio(any_free_port())
    studio.shelf.add_tasks(2)
    studio.back()
    yield studio
    studio.gone()


class Backend:
    """An ML backend that notes what it is asked."""

    def __init__(self) -> None:
        noted: list[tuple[str, dict[str, Any]]] = []
        self.noted = noted

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
                noted.append((self.path, body))
                answer = json.dumps({"model_version": "v1", "results": [[] for _ in body.get("tasks", ())]}).encode()
                self.send_response(201 if self.path == "/webhook" else 200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_GET

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer((HOST, 0), Handler)
        self.url = f"http://{HOST}:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def asked(self) -> list[str]:
        """The paths since the last call."""
        paths = [path for path, _ in self.noted]
        self.noted.clear()
        return paths

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend()
    yield made
    made.stop()


@pytest.fixture
def client(stub: StubStudio) -> Studio:
    return Studio(f"http://{HOST}:{stub.port}", TOKEN, timeout=5)


def prediction(task: int, version: str = "v1") -> dict[str, Any]:
    return {"task": task, "result": [{"id": "a"}], "score": 0.5, "model_version": version}


def test_the_same_prediction_twice_is_there_twice(stub: StubStudio, client: Studio) -> None:
    assert client.create_prediction(1, prediction(1))
    assert client.import_predictions(1, [prediction(1), prediction(2), prediction(2, "v2")]) == 3
    assert [one["model_version"] for one in client.predictions(1)] == ["v1", "v1"]
    assert stub.shelf.report()["doubled"] == [1]
    assert client.delete_prediction(client.predictions(1)[0]["id"])
    report = stub.shelf.report()
    assert (report["doubled"], report["stored"], report["missing"]) == ([], {"v1": 2, "v2": 1}, [])


def test_one_unknown_task_refuses_the_whole_batch(stub: StubStudio, client: Studio) -> None:
    with pytest.raises(StudioError, match="400"):
        client.import_predictions(1, [prediction(1), prediction(99)])
    assert stub.shelf.report()["missing"] == [1, 2]


def test_a_deleted_task_is_unknown(stub: StubStudio, client: Studio) -> None:
    stub.shelf.delete_task(2)
    assert client.predictions(2) == []
    assert not client.create_prediction(2, prediction(2))
    assert client.task_exists(1)


def test_the_token_is_checked(stub: StubStudio) -> None:
    with pytest.raises(StudioError, match="401"):
        Studio(f"http://{HOST}:{stub.port}", "wrong").predictions(1)


@pytest.mark.parametrize("faults", [Faults(errors=1.0), Faults(resets=1.0)], ids=["500", "connection cut"])
def test_faults_are_what_may_pass(stub: StubStudio, client: Studio, faults: Faults) -> None:
    stub.faults = faults
    for _ in range(20):  # the cut comes before or after the work, by chance
        with pytest.raises(StudioUnavailable):
            client.create_prediction(1, prediction(1))
    stored = len(stub.shelf.predictions(1))
    assert stored == stub.shelf.counts["cut after"]
    assert (stored > 0) == bool(faults.resets)


def test_gone_and_back_with_its_data(stub: StubStudio, client: Studio) -> None:
    client.create_prediction(1, prediction(1))
    stub.gone()
    with pytest.raises(StudioUnavailable):
        client.create_prediction(1, prediction(1))
    stub.back()
    assert len(client.predictions(1)) == 1


def test_its_images_are_fetched_as_those_of_label_studio(stub: StubStudio, client: Studio) -> None:
    fetcher = ImageFetcher(client.url, client.authorization)
    url = stub.task(1)["data"]["image"]
    height, width, channels = fetcher.fetch(url, 1).shape
    assert (height * width, channels) == (pytest.approx(256 * 256, rel=0.02), 3)
    stub.gone()
    with pytest.raises(ImageUnavailable):
        fetcher.fetch(url, 1)


# Tasks and projects


def found(client: Studio, *conditions: tuple[str, str, str, Any], project: int = 1, **selected: Any) -> list[int]:
    items = [
        {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}
        for column, operator, kind, value in conditions
    ]
    asked = {"filters": {"conjunction": "and", "items": items}, "ordering": ["tasks:id"], **selected}
    params = {"project": project, "query": json.dumps(asked), "page_size": 50}
    return [task["id"] for task in client.session.get("/api/tasks/", params=params)["tasks"]]


def test_the_data_manager_filters_tasks(stub: StubStudio, client: Studio) -> None:
    stub.shelf.add_tasks(3)
    other = stub.shelf.add_project("another", CONFIG)
    stub.shelf.add_tasks(1, other)
    client.import_predictions(1, [prediction(2), prediction(3, "v2")])
    stub.shelf.annotate(4, {"id": 1, "result": []})
    created = stub.task(3)["created_at"]
    changed = stub.task(4)["updated_at"]
    cases: list[tuple[list[tuple[str, str, str, Any]], list[int]]] = [
        ([], [1, 2, 3, 4, 5]),
        ([("id", "greater", "Number", 3)], [4, 5]),
        ([("predictions_model_versions", "contains", "List", ["v"])], [2, 3]),
        ([("predictions_model_versions", "not_contains", "List", ["v1"])], [1, 3, 4, 5]),
        ([("total_annotations", "equal", "Number", 0)], [1, 2, 3, 5]),
        ([("created_at", "greater", "Datetime", created), ("id", "greater", "Number", 2)], [4, 5]),
        ([("created_at", "greater_or_equal", "Datetime", created)], [3, 4, 5]),
        ([("updated_at", "greater_or_equal", "Datetime", changed)], [4]),
        ([("updated_at", "greater", "Datetime", changed)], []),
    ]
    for conditions, expected in cases:
        assert found(client, *conditions) == expected, conditions
    chosen = {"selectedItems": {"all": False, "included": [1, 2, 6]}}
    assert found(client, ("id", "greater", "Number", 1), **chosen) == [2]
    assert found(client, **chosen, project=other) == [6]
    assert found(client, selectedItems={"all": False, "included": []}) == [1, 2, 3, 4, 5], "as in 1.23"
    with pytest.raises(StudioError, match="404"):
        found(client, project=9)
    with pytest.raises(StudioError, match="does not know"):
        found(client, ("lead_time", "equal", "Number", 1))


def test_a_list_has_predictions_and_annotations_only_where_all_fields_are_asked_for(
    stub: StubStudio, client: Studio
) -> None:
    client.create_prediction(1, prediction(1))
    stub.shelf.annotate(1, {"id": 7, "result": []})
    (bare, _), (whole, _) = client.tasks(1), client.tasks(1, whole=True)
    assert "predictions" not in bare
    assert "annotations" not in bare
    assert (bare["total_predictions"], bare["total_annotations"], bare["predictions_model_versions"]) == (1, 1, "v1")
    (stored,) = whole["predictions"]
    assert (stored["id"], stored["result"], stored["model_version"]) == (1, [{"id": "a"}], "v1")
    assert stored["created_at"].endswith("Z")
    assert whole["annotations"] == [{"id": 7, "result": []}]


@pytest.mark.parametrize(
    ("change", "bumps"),
    [
        (lambda client: client.session.send("PATCH", "/api/tasks/1/", json={"data": {"image": "/x.jpg"}}), True),
        (lambda client: client.create_prediction(1, prediction(1)), True),
        (lambda client: client.delete_prediction(1), True),
        (lambda client: client.import_predictions(1, [prediction(1)]), False),
    ],
    ids=["data", "prediction", "prediction deleted", "bulk import"],
)
def test_what_changes_updated_at(
    stub: StubStudio, client: Studio, change: Callable[[Studio], Any], bumps: bool
) -> None:
    client.import_predictions(1, [prediction(1)])
    before = stub.task(1)
    change(client)
    after = stub.task(1)
    assert (after["updated_at"] > before["updated_at"]) == bumps
    assert after["created_at"] == before["created_at"]


def test_ids_are_given_out_again_but_images_are_not(stub: StubStudio) -> None:
    before = [stub.task(number)["data"]["image"] for number in stub.shelf.add_tasks(3)]
    new = stub.replace_newest(2)["tasks"]
    assert new == [4, 5]
    after = [stub.task(number)["data"]["image"] for number in new]
    assert len({*before, *after}) == 5
    stub.shelf.change_image(5)
    assert stub.task(5)["data"]["image"] not in {*before, *after}


def test_a_project_goes_with_its_tasks_and_its_id_is_given_out_again(stub: StubStudio, client: Studio) -> None:
    number = stub.shelf.add_project("second", CONFIG)
    (task,) = stub.shelf.add_tasks(1, number)
    image = stub.task(task)["data"]["image"]
    assert [(one["id"], one["title"], one["task_number"]) for one in client.projects()] == [
        (2, "second", 1),
        (1, "load", 2),
    ]
    assert client.project(2) is not None
    with pytest.raises(StudioError, match="400"):
        client.import_predictions(2, [prediction(1)])
    fetcher = ImageFetcher(client.url, client.authorization)
    fetcher.fetch(image, task)
    assert client.delete_project(2)
    assert (client.project(2), client.task_exists(task), stub.shelf.add_project("third", CONFIG)) == (None, False, 2)
    assert client.project(2)["created_at"] > client.project(1)["created_at"]  # type: ignore[index]
    assert stub.shelf.add_tasks(1, 2) == [task]


# Which image a prediction was made from


@pytest.mark.parametrize("pixels", [96 * 128, 256 * 256, 1_000_000])
def test_a_code_goes_from_the_pixels_into_the_mask_and_back(pixels: int) -> None:
    plain = photo(pixels, 1)
    for code in range(0, CODES, 5):
        seen = decode_image(jpeg(plain, code), ImageFetcher("http://studio", dict)._limits)
        assert code_of_image(seen) == code
    masks = masks_of(*plain.shape[:2], code)
    assert not (masks[0] & masks[1]).any()


def made(client: Studio, task: dict[str, Any]) -> dict[str, Any]:
    """A prediction as the null worker makes it of a task's image."""
    image = ImageFetcher(client.url, client.authorization).fetch(task["data"]["image"], task["id"])
    masks = masks_of(*image.shape[:2], code_of_image(np.asarray(image)))
    named = zip(masks, LABELS, strict=False)
    regions = [brush.region(mask, label, "mask", "image", 0.9, label) for mask, label in named]
    return {"task": task["id"], "result": regions, "score": 0.9, "model_version": "v1"}


def test_a_prediction_of_another_image_is_told(stub: StubStudio, client: Studio) -> None:
    client.import_predictions(1, [made(client, stub.task(1)), {**made(client, stub.task(1)), "task": 2}])
    report = stub.shelf.report()
    assert (report["wrong"], report["settled"], report["delivered"]) == ([2], 1, 2)
    stub.shelf.change_image(1)
    assert stub.shelf.report()["wrong"] == [1, 2]
    for number in (1, 2):
        client.delete_prediction(number)
        client.create_prediction(number, made(client, stub.task(number)))
    report = stub.shelf.report()
    assert (report["wrong"], report["settled"]) == ([], 2)
    client.create_prediction(1, prediction(1, "v0"))
    assert stub.shelf.report()["wrong"] == [1], "a mask that tells no image is wrong"


# ML backends and webhooks


def test_connecting_asks_twice_and_makes_the_webhook(stub: StubStudio, client: Studio, backend: Backend) -> None:
    number = client.connect_backend(1, backend.url, "CaR")
    body = backend.noted[1][1]
    created = stub.shelf.projects[1].created
    assert body == {
        "project": f"1.{int(created.timestamp())}",
        "schema": CONFIG,
        "hostname": client.url,
        "access_token": TOKEN,
        "extra_params": None,
    }
    assert backend.asked() == ["/health", "/setup", "/health", "/setup"]
    (row,) = client.backends(1)
    assert backend.asked() == ["/health", "/setup"]
    assert (row["id"], row["url"], row["state"], row["model_version"]) == (number, backend.url, "CO", "v1")
    assert (row["title"], row["project"], row["auth_method"]) == ("CaR", 1, "NONE")
    assert row["created_at"] > stub.task(2)["created_at"]
    assert [one["url"] for one in client.webhooks(1)] == [f"{backend.url}/webhook"]
    backend.stop()
    assert client.backends(1)[0]["state"] == "DI"
    assert client.disconnect_backend(number)
    assert (client.backends(1), len(client.webhooks(1))) == ([], 1), "the webhook stays behind"


def test_backends_of_no_project_are_not_found(client: Studio) -> None:
    for params in ({}, {"project": 9}):
        with pytest.raises(StudioError, match="404"):
            client.session.get("/api/ml/", params=params)


def test_a_backend_that_does_not_answer_cannot_be_connected(stub: StubStudio, client: Studio) -> None:
    with pytest.raises(StudioError, match="Can't connect"):
        client.connect_backend(1, f"http://{HOST}:{any_free_port()}", "CaR")
    assert (stub.connections.backends, stub.connections.webhooks) == ({}, {})


@pytest.mark.parametrize(
    ("url", "accepted"),
    [("http://ml-backend:9090", False), ("http://localhost:9090", True), ("http://ml.example:9090", True)],
)
def test_webhooks_want_a_host_with_a_dot(
    stub: StubStudio, client: Studio, monkeypatch: pytest.MonkeyPatch, url: str, accepted: bool
) -> None:
    webhook = {"project": 1, "url": f"{url}/webhook"}
    if accepted:
        assert client.session.send("POST", "/api/webhooks/", json=webhook)["is_active"]
    else:
        with pytest.raises(StudioError, match="Enter a valid URL"):
            client.session.send("POST", "/api/webhooks/", json=webhook)
    stub.connections.webhooks.clear()
    monkeypatch.setattr(stub.connections, "_ask", lambda row, project: row.update(state="CO") or row)
    client.connect_backend(1, url, "CaR")
    assert len(client.webhooks(1)) == accepted


def test_only_the_webhooks_there_are_hear_and_only_once(stub: StubStudio, client: Studio, backend: Backend) -> None:
    assert not stub.import_tasks(1)["accepted"], "there is none"
    client.connect_backend(1, backend.url, "CaR")
    other = stub.shelf.add_project("another", CONFIG)
    backend.asked()
    stub.import_tasks(1, other)
    assert backend.asked() == []
    assert stub.import_tasks(2)["accepted"]
    ((path, body),) = backend.noted
    assert (path, body["action"], [task["id"] for task in body["tasks"]]) == ("/webhook", "TASKS_CREATED", [5, 6])
    assert (body["project"]["id"], body["project"]["label_config"]) == (1, CONFIG)
    backend.asked()
    client.delete_task(6)
    assert backend.asked() == [], "a deletion by API is not told"
    stub.delete_tasks([5], told=True)
    ((_, body),) = backend.noted
    assert (body["action"], body["tasks"], body["project"]["id"]) == ("TASKS_DELETED", [{"id": 5}], 1)
    (webhook,) = client.webhooks(1)
    client.session.send("PATCH", f"/api/webhooks/{webhook['id']}/", json={"is_active": False})
    assert not stub.import_tasks(1)["accepted"]
    client.session.send("PATCH", f"/api/webhooks/{webhook['id']}/", json={"is_active": True})
    backend.stop()
    assert not stub.import_tasks(1)["accepted"]
    assert stub.shelf.counts["webhooks lost"] == 1
    client.session.send("DELETE", f"/api/webhooks/{webhook['id']}/")
    assert client.webhooks(1) == []


def test_tasks_are_retrieved_from_the_backend_of_their_project(
    stub: StubStudio, client: Studio, backend: Backend
) -> None:
    assert stub.retrieve([1])["lacking"] == 1
    client.connect_backend(1, backend.url, "CaR")
    client.create_prediction(2, prediction(2, "v0"))
    backend.asked()
    assert stub.retrieve([1, 2, 99]) | {"seconds": 0} == {"asked": 2, "answered": 0, "seconds": 0, "lacking": 2}
    predict = backend.noted[-1][1]
    assert [len(task["predictions"]) for task in predict["tasks"]] == [0, 1]
    assert predict["project"] == stub.shelf.projects[1].uid
    assert backend.asked() == ["/health", "/setup", "/predict"]
    backend.stop()
    failures = stub.shelf.counts["retrievals failed"]
    stub.retrieve([1])
    assert stub.shelf.counts["retrievals failed"] == failures + 1


def test_a_project_that_is_gone_has_no_connections(stub: StubStudio, client: Studio, backend: Backend) -> None:
    number = stub.shelf.add_project("second", CONFIG)
    client.connect_backend(number, backend.url, "CaR")
    client.delete_project(number)
    assert (stub.connections.backends, stub.connections.webhooks) == ({}, {})
    with pytest.raises(Refused):
        stub.import_tasks(1, number)
