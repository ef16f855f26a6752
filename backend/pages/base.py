"""What the pages for people have in common: the base template, the menu, and what a browser is told to allow.

A page is a module with a blueprint of `blueprint()` and views that answer with `render()`; `backend.app` lists the
blueprints. Like every route they ask for the password. Pages show what users wrote (labels, errors, addresses):
templates end in `.html`, so that Jinja escapes all of it, and the policy below runs no script but our own.
"""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, current_app, make_response, render_template, request
from werkzeug.exceptions import Forbidden

from backend.predict import Predictor
from backend.settings import Settings

MENU = (("/", "Status"), ("/corrections", "Corrections"))
"""Address and name of every page, in the order in which they are shown."""


def blueprint(name: str) -> Blueprint:
    """A blueprint for pages, with our templates; what changes something is refused to other sites."""
    made = Blueprint(name, __name__, template_folder="templates")
    made.before_request(_refuse_other_sites)
    return made


def _refuse_other_sites() -> None:
    """A browser sends the password along with a form of any site: only our own pages may change something."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    if site != "same-origin" or (origin is not None and urlsplit(origin).netloc != request.host):
        raise Forbidden("This can only be done from the backend's own pages.")


def predictor() -> Predictor:
    """What answers Label Studio's requests in this process; it holds the settings and the connection to Redis."""
    found: Predictor = current_app.config["CAR"]
    return found


def task_link(settings: Settings, project: int, task: int) -> str:
    """The address of a task in Label Studio, as a browser reaches it."""
    return f"{studio_link(settings)}/projects/{project}/data?task={task}"


def studio_link(settings: Settings) -> str:
    """Label Studio's address as a browser reaches it, without a slash at its end."""
    return settings.car_studio_link or settings.label_studio_url


def render(template: str, title: str, refresh: float = 0, **values: Any) -> Response:
    """A page from a template that extends `base.html`.

    With `refresh` the page's `<main>` is fetched anew every so many seconds. `<style nonce="{{ nonce }}">` and
    `<script nonce="{{ nonce }}">` work in templates, images may be of this origin or `data:`; nothing else loads.
    """
    nonce = secrets.token_urlsafe(16)
    answer = make_response(
        render_template(
            template,
            title=title,
            refresh=refresh,
            nonce=nonce,
            menu=MENU,
            here=request.path,
            studio=studio_link(predictor().settings),
            **values,
        )
    )
    answer.headers["Content-Security-Policy"] = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "same-origin"
    answer.headers["Cache-Control"] = "no-store"
    return answer
