"""The web process: the routes that Label Studio calls, on the app of label-studio-ml.

The app is the one that `label_studio_ml.api.init_app` makes from our `LabelStudioMLBase` subclass, so this is a
regular Label Studio ML backend. Of its views in 1.0.9 several are broken (one global model for all projects, /versions
by POST only, headers written to the debug log), so every view is ours; views and subclass call the same `Predictor`.

Importing this module opens no connection and never imports torch.
"""

from __future__ import annotations

import base64
import hmac
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

from flask import Flask, Response, current_app, jsonify, request
from redis.exceptions import RedisError
from werkzeug.exceptions import BadRequest, HTTPException, NotFound, Unauthorized

from backend import store, trouble
from backend.connections import note_setup
from backend.interactive.answering import answer
from backend.labeling.parsing import ConfigError
from backend.pages import corrections as corrections_page
from backend.pages import status as status_page
from backend.predict import Answer, Predictor
from backend.settings import Settings, load_settings
from backend.status.refused import Refused
from backend.studio.client import SECRET_HEADER, secret_of

log = logging.getLogger(__name__)

PAGES = (status_page.pages, corrections_page.pages)
"""Blueprints of the pages for people; see `backend.pages.base`."""


@contextmanager
def _without_torch() -> Iterator[None]:
    """label-studio-ml imports torch if it can, only to set how it forks; this process must stay small."""
    names = ("torch", "torch.multiprocessing")
    hidden: dict[str, ModuleType] = {name: sys.modules[name] for name in names if name in sys.modules}
    for name in names:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)


with _without_torch():
    from label_studio_ml.api import init_app
    from label_studio_ml.model import LabelStudioMLBase


class CarBackend(LabelStudioMLBase):  # type: ignore[misc]
    """CaR as label-studio-ml knows models: usable wherever a `LabelStudioMLBase` is."""

    def __init__(self, project_id: str | None = None, label_config: str | None = None, **kwargs: Any):
        # The base class's constructor parses the config without protection against entities; nothing of it is used.
        self.project_id = project_id
        self.label_config = label_config or ""
        self.predictor = Predictor(load_settings())

    def predict(
        self, tasks: Sequence[Mapping[str, Any]], context: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> list[Answer]:
        """One prediction per task, or `[]` where none is ready (it is then pushed when it is)."""
        project = project_number(self.project_id)
        return _answers(self.predictor, tasks, project, self.label_config, context)

    def fit(self, *args: Any, **kwargs: Any) -> None:
        """Nothing is trained. (In 1.0.9 a returned dict would change the model version.)"""


def create_app(settings: Settings | None = None) -> Flask:
    """The WSGI app with these settings (default: the environment's). Gunicorn: `backend.app:create_app()`."""
    settings = settings or load_settings()
    app.config["CAR"] = Predictor(settings)
    app.config["REFUSED"] = Refused()
    app.config["MAX_CONTENT_LENGTH"] = settings.car_max_body_bytes
    return app


def project_number(project: str | None) -> int:
    """Label Studio 1.23 names a project "2.1795154356": its id and when it was created. 0 when it says nothing."""
    head = str(project or "").split(".")[0]
    return int(head) if head.isdigit() else 0


def _predictor() -> Predictor:
    predictor: Predictor = current_app.config["CAR"]
    return predictor


def _body() -> dict[str, Any]:
    try:
        body = request.get_json(silent=True)
    except RecursionError:
        raise BadRequest("The body is nested too deeply.") from None
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    return body


def predict() -> Response:
    """POST /predict: Label Studio's tasks -> one answer each; or what an annotator asks for in the open one."""
    body = _body()
    tasks = body.get("tasks")
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise BadRequest('The body needs "tasks", a list of Label Studio tasks.')
    config, project = body.get("label_config") or "", project_number(body.get("project"))
    params = body.get("params")
    context = params.get("context") if isinstance(params, dict) else None
    return jsonify({"results": _answers(_predictor(), tasks, project, config, context)})


def _answers(
    predictor: Predictor, tasks: Sequence[Mapping[str, Any]], project: int, config: str, context: object
) -> list[Answer]:
    """One answer per task; with a context, what an annotator asks for in the open one."""
    if context and len(tasks) == 1:
        return [answer(predictor, tasks[0], project, config, context)]
    return predictor.predict(tasks, project, config)


def setup() -> Response:
    """POST /setup: a project's labeling config -> its model version, or what is wrong with the config.

    The body also carries an access token of the project's owner; it is never kept nor logged.
    """
    body = _body()
    project = project_number(body.get("project"))
    with _while_redis_answers():
        if project:
            note_setup(_predictor().redis, project, request.url_root)
    try:
        version = _predictor().version(body.get("schema") or body.get("label_config") or "")
    except ConfigError as error:
        log.error("project %s cannot be pre-labelled: %s", body.get("project"), error)
        raise BadRequest(str(error)) from None
    with _while_redis_answers():
        _predictor().note_version(version, project)
    return jsonify({"model_version": version})


@contextmanager
def _while_redis_answers() -> Iterator[None]:
    """What is only noted may fail: the courier finds it out after the outage."""
    try:
        yield
    except RedisError as error:
        log.error(trouble.explain(error))


def webhook() -> tuple[Response, int]:
    """POST /webhook: keep the event for the courier, in one write. Label Studio waits 1 s and never retries.

    503 when Redis does not take it; the status page says so from then on.
    """
    _body()
    try:
        _predictor().redis.lpush(store.INBOX, request.get_data())
    except RedisError as error:
        current_app.config["REFUSED"].add(trouble.explain(error))
        raise
    return jsonify({"status": "accepted"}), 201


def health() -> tuple[Response, int]:
    """GET /health: 200 when this process answers and Redis takes writes, else 503 with the reason.

    Whether workers live is `python -m backend status`.
    """
    try:
        trouble.try_write(_predictor().redis)
    except RedisError as error:
        return jsonify({"status": "DOWN", "error": trouble.explain(error)}), 503
    return jsonify({"status": "UP", "model_class": CarBackend.__name__}), 200


def health_or_page() -> Response | tuple[Response, int]:
    """GET /health; and GET /, which label-studio-ml answers with the same, but for browsers with the status page."""
    if request.path == "/" and "text/html" in request.headers.get("Accept", ""):
        return status_page.status()
    return health()


def versions() -> Response:
    """GET /versions: the model versions of the projects seen. Label Studio names no project in this request."""
    return jsonify({"versions": _predictor().versions()})


def _absent(**_: Any) -> Response:
    raise NotFound()


def _authenticate() -> None:
    """Ask for the password on every route; a webhook shows our secret instead. Compared as bytes, in constant time."""
    wanted = _predictor().settings.auth
    if wanted is None:
        return
    given = request.headers.get("Authorization", "").encode("latin-1", "replace")
    # Letters beyond ASCII come as Latin-1 from Label Studio 1.23 (requests), as UTF-8 from browsers.
    equal = [hmac.compare_digest(given, header) for header in _basic(wanted)]
    secret = request.headers.get(SECRET_HEADER, "").encode("latin-1", "replace")
    equal.append(request.path == "/webhook" and hmac.compare_digest(secret, secret_of(wanted).encode()))
    if any(equal):
        return
    raise Unauthorized("Wrong or missing user and password (BASIC_AUTH_USER, BASIC_AUTH_PASS).")


def _basic(auth: tuple[str, str]) -> Iterator[bytes]:
    """The headers that stand for user and password, in each encoding that can hold them."""
    for encoding in ("utf-8", "latin-1"):
        with suppress(UnicodeEncodeError):
            yield b"Basic " + base64.b64encode(":".join(auth).encode(encoding))


def _explain(error: Exception) -> Response | tuple[Response, int]:
    """Every error as JSON, without a traceback in the body.

    The reason stands in the status line too: that line is all that Label Studio 1.23 shows of a failed /setup.
    """
    if isinstance(error, HTTPException):
        answer = jsonify({"error": error.description})
        reason = " ".join((error.description or error.name).split()).encode("ascii", "replace").decode()
        answer.status = f"{error.code} {reason}"
        if isinstance(error, Unauthorized):
            answer.headers["WWW-Authenticate"] = 'Basic realm="CaR for Label Studio", charset="UTF-8"'
        return answer
    if isinstance(error, RedisError):
        log.error(trouble.explain(error))
        return jsonify({"error": trouble.explain(error)}), 503
    log.exception("unexpected error in %s", request.path)
    # Its words may hold paths of this machine; they stand in the log.
    return jsonify({"error": f"Unexpected error ({type(error).__name__}); the backend's log says more."}), 500


def _own(app: Flask) -> Flask:
    """Make the module-global app of label-studio-ml ours: views, hooks and error handlers."""
    views: dict[str, Callable[..., Any]] = {
        "_predict": predict,
        "_setup": setup,
        "webhook": webhook,
        "health": health_or_page,
        "get_version": versions,
        "metrics": status_page.exposition,
    }
    for endpoint in app.view_functions:
        app.view_functions[endpoint] = views.get(endpoint, _absent)
    app.add_url_rule("/versions", "versions", versions, methods=["GET"])
    app.before_request_funcs.clear()  # 1.0.9 writes headers, so passwords too, to the debug log
    app.after_request_funcs.clear()
    app.before_request(_authenticate)
    app.error_handler_spec.clear()
    app.register_error_handler(Exception, _explain)
    for pages in PAGES:
        app.register_blueprint(pages)
    return app


app = _own(init_app(CarBackend))
