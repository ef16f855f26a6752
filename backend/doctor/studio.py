"""Checks of Label Studio: it answers, takes our token, and one project is connected to us as it must be."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import requests

from backend.connections import webhook_problem
from backend.doctor.findings import Finding, ok, problem, unknown
from backend.labeling.parsing import ConfigError, LabelingConfig, parse_config, pictures
from backend.settings import Settings
from backend.studio.client import SECRET_HEADER, Studio, StudioError, StudioUnavailable, secret_of
from backend.studio.session import token_type
from model.presets import preset

TOKENS = {"legacy": "legacy token", "refresh": "personal access token", "access": "access token"}
NEEDED = {
    "TASKS_CREATED": "imports are found by comparison only, some minutes late",
    "TASKS_DELETED": "deleted tasks are segmented all the same",
    "PROJECT_UPDATED": "what was queued for an old labeling config is not cancelled",
    "ANNOTATION_CREATED": "corrections are not compared",
    "ANNOTATION_UPDATED": "corrections are not compared",
    "ANNOTATIONS_CREATED": "corrections are not compared",
    "ANNOTATIONS_DELETED": "corrections are not compared",
}
"""Actions that the courier listens to, with what goes wrong without them."""
CONNECT = "In Label Studio: Settings > Model > Connect Model, with the backend's address as Label Studio reaches it."
RESERVED = (
    'Should it say "URL resolves to a reserved network address": start Label Studio with '
    "LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS=false."
)


def check_reach(url: str) -> Finding:
    """Whether a Label Studio answers at all; no token is needed for that."""
    check = "label studio"
    fix = "Start it, or set LABEL_STUDIO_URL to its address as seen from here (the localhost of a container is itself)."
    try:
        answer = requests.get(f"{url}/health", timeout=10, allow_redirects=False)
    except requests.RequestException as error:
        return problem(check, f"{url} does not answer ({type(error).__name__}).", fix)
    if 300 <= answer.status_code < 400:
        to = answer.headers.get("Location", "somewhere else")
        return problem(check, f"{url} redirects to {to}.", "Set LABEL_STUDIO_URL to where Label Studio itself answers.")
    try:
        up = answer.ok and answer.json().get("status") == "UP"
    except (ValueError, AttributeError):
        up = False
    if not up:
        return problem(check, f"{url}/health says {answer.status_code}, not as Label Studio does.", fix)
    return ok(check, f"{url} answers")


def check_token(studio: Studio, settings: Settings) -> Finding:
    """Whose token it is, and of which kind."""
    kind = TOKENS[token_type(settings.label_studio_api_key.get_secret_value())]
    try:
        user = studio.user()
    except StudioUnavailable as error:
        return unknown("token", str(error))
    except StudioError as error:
        what, _, fix = str(error).partition(". ")
        return problem("token", f"{what}.", fix or "Put a token of Label Studio into LABEL_STUDIO_API_KEY.")
    return ok("token", f"{kind} of {user.get('email', 'a user without address')}")


def check_project(
    studio: Studio, settings: Settings, project: int, url: str | None
) -> Generator[Finding, None, str | None]:
    """Everything about one project; returns where Label Studio has our backend, None when it has none.

    Raises StudioError when Label Studio refuses or goes away in between.
    """
    found = studio.project(project)
    if found is None:
        fix = "Check the number in the project's address, and that the token's user may see it."
        yield problem("project", f"There is no project {project} for this token.", fix)
        return None
    yield ok("project", f"{project}: {found.get('title')}")
    config = None
    try:
        config = parse_config(found.get("label_config") or "", settings.car_preset)
    except ConfigError as error:
        yield problem("labeling config", str(error), "Correct it in Settings > Labeling Interface.")
    else:
        yield _config_finding(config)
    if config is not None:
        yield from check_remembered(config, settings)
    backend = choose_backend(studio.backends(project), url)
    yield connection(backend, settings, url)
    yield (
        webhook(studio.webhooks(project), str(backend["url"]), settings)
        if backend
        else unknown("webhook", "Label Studio makes it when the backend is connected.")
    )
    yield check_image(studio, settings, project, config)
    return str(backend["url"]).rstrip("/") if backend else None


def _config_finding(config: LabelingConfig) -> Finding:
    if config.skip:
        fix = "Take the attribute away in Settings > Labeling Interface."
        return problem("labeling config", 'model_skip="true": no predictions are made.', fix)
    return ok("labeling config", f"{len(config.labels)} labels, preset {config.preset}")


def check_remembered(config: LabelingConfig, settings: Settings) -> Iterator[Finding]:
    """Whether the memories of corrected regions that a config names are here, as workers need them."""
    from model.memory import MemoryFileError, read  # NumPy: only for this check

    check = "corrected regions"
    for setting in dict.fromkeys(config.model_preset(image).memory for image in config.images):
        if not setting:
            continue
        located = settings.located(preset(config.preset, {"memory": setting})).memory
        path = Path(located.partition("#")[0])
        fix = f"Put it into the folder CAR_MEMORY of every worker: {settings.memory_folder}."
        if not path.exists():
            yield unknown(check, f"{path} is not here; workers on other machines may have it.", fix)
            continue
        try:
            yield ok(check, f"{setting}: {len(read(located).labels)} regions are remembered")
        except MemoryFileError as error:
            yield problem(check, str(error), f"{fix} Or take car_memory away in Settings > Labeling Interface.")


def choose_backend(backends: list[dict[str, Any]], url: str | None) -> dict[str, Any] | None:
    """Which of a project's ML backends is ours: the one at `url`, else one with a version of ours, else the first."""
    if url is not None:
        same = [one for one in backends if str(one.get("url", "")).rstrip("/") == url]
        backends = same or backends
    ours = [one for one in backends if str(one.get("model_version") or "").startswith("car-")]
    return next(iter(ours or backends), None)


def connection(backend: Mapping[str, Any] | None, settings: Settings, url: str | None) -> Finding:
    """Whether Label Studio reaches the backend, with the right address and password."""
    check = "connection"
    if backend is None:
        return problem(check, "The project has no ML backend.", f"{CONNECT} {RESERVED}")
    there = str(backend.get("url", "")).rstrip("/")
    if url is not None and there != url:
        fix = f"{CONNECT} That is {url}, as you said; or leave out --url."
        return problem(check, f"The project's ML backend is {there}.", fix)
    if settings.auth and backend.get("auth_method") != "BASIC_AUTH":
        fix = f"In Settings > Model, edit {there}: Basic Authentication, user {settings.auth[0]}, and BASIC_AUTH_PASS."
        return problem(check, "Label Studio sends no password, the backend asks for one.", fix)
    if settings.auth and backend.get("basic_auth_user") != settings.auth[0]:
        fix = f"In Settings > Model, edit {there}: user {settings.auth[0]}, and BASIC_AUTH_PASS."
        return problem(check, f"Label Studio sends the user {backend.get('basic_auth_user')!r}.", fix)
    if backend.get("state") == "CO":
        return ok(check, f"{there}, {backend.get('model_version')}")
    said = str(backend.get("error_message") or "")
    if backend.get("state") == "ER":
        return problem(check, f"The backend refuses the project: {said}", "Correct what it says.")
    password = " with the password of Settings > Model" if settings.auth else ""
    fix = (
        f"From Label Studio's host (or its container, whose localhost is itself) {there}/health must answer{password}. "
        "Correct the address in Settings > Model."
    )
    return problem(check, f"Label Studio does not reach {there}. {said}".rstrip(), fix)


def webhook(webhooks: list[dict[str, Any]], backend_url: str, settings: Settings) -> Finding:
    """Whether Label Studio tells us of imports, in a way that we accept."""
    check, address = "webhook", f"{backend_url.rstrip('/')}/webhook"
    found = next((one for one in webhooks if str(one.get("url", "")).rstrip("/") == address), None)
    if found is None:
        return _no_webhook(check, backend_url, address, settings)
    fix = f"In Settings > Webhooks, edit {address}: "
    if not found.get("is_active", True):
        return problem(check, "It is switched off.", f"{fix}switch it on.")
    sent = NEEDED if found.get("send_for_all_actions") else found.get("actions") or ()
    lacking = [action for action in NEEDED if action not in sent]
    if lacking:
        without = "; ".join(dict.fromkeys(NEEDED[action] for action in lacking))
        return problem(
            check,
            f"It lacks {', '.join(lacking)}, so that {without}.",
            f"{fix}Send for all actions, or tick those too.",
        )
    if not found.get("send_payload", True):
        return problem(check, "It comes without the tasks.", f"{fix}send the payload.")
    if settings.auth and (found.get("headers") or {}).get(SECRET_HEADER) != secret_of(settings.auth):
        fix = "Start python -m backend courier (it sets the header within minutes), or reconnect the model."
        return problem(check, f"It lacks our {SECRET_HEADER}, so the backend refuses it.", fix)
    return ok(check, f"{address}")


def _no_webhook(check: str, backend_url: str, address: str, settings: Settings) -> Finding:
    """Say why there is none, and what helps: the courier makes it wherever Label Studio lets it."""
    cause, connect, address_that_works = webhook_problem(backend_url).partition("Connect the model")
    if cause:
        return problem(check, cause.strip(), f"In Settings > Model, edit the address. {connect}{address_that_works}")
    late = "the courier finds imports by comparison only" if settings.car_converge_seconds else "imports are not found"
    fix = (
        "Start python -m backend courier: it makes the webhook within minutes, or its log says why not. Or add in "
        f"Settings > Webhooks: {address}, all actions."
    )
    return problem(check, f"There is none to {address}, so {late}.", fix)


def check_image(studio: Studio, settings: Settings, project: int, config: LabelingConfig | None) -> Finding:
    """Whether the first task's image can be fetched from here, as the worker does."""
    check = "image"
    if config is None:
        return unknown(check, "Which field holds it stands in the labeling config.")
    task = next(studio.tasks(project), None)
    if task is None:
        return unknown(check, "The project has no task.")
    from backend.images.fetcher import ImageError, ImageUnavailable, fetcher_of  # OpenCV: only for this check

    fetcher = fetcher_of(settings, studio.authorization, from_cache=False)
    try:
        shapes = [fetcher.fetch(one.address, int(task["id"])).shape for one in pictures(config, task.get("data"))]
    except (ConfigError, ImageUnavailable, ImageError) as error:
        fix = "Open the task in Label Studio: is the image there? Then see what the reason names."
        return problem(check, f"Task {task['id']}: {error}", fix)
    sizes = ", ".join(f"{width} x {height}" for height, width, _ in shapes)
    return ok(check, f"task {task['id']}: {sizes} pixels")
