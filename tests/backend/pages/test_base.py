from __future__ import annotations

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient

from backend.app import PAGES, app, create_app
from backend.pages import base as pages
from backend.settings import Settings

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize(("headers", "kind"), [(BROWSER, "text/html"), ({}, "application/json")])
def test_browsers_see_a_page_where_others_ask_for_health(
    settings: Settings, headers: dict[str, str], kind: str
) -> None:
    answer = create_app(settings).test_client().get("/", headers=headers)
    assert (answer.status_code, answer.mimetype) == (200, kind)


def test_a_page_loads_nothing_from_elsewhere_and_runs_only_our_script(settings: Settings) -> None:
    answer = create_app(settings).test_client().get("/", headers=BROWSER)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    (nonce,) = {part.split('"')[0] for part in answer.text.split('nonce="')[1:]}
    assert f"script-src 'nonce-{nonce}'" in policy
    assert "http://studio.test:8080" in answer.text


def test_links_may_lead_elsewhere_than_the_backend_goes(settings: Settings) -> None:
    assert pages.task_link(settings, 3, 8) == "http://studio.test:8080/projects/3/data?task=8"
    public = settings.model_copy(update={"car_studio_link": "https://label.example.com/studio"})
    assert pages.task_link(public, 3, 8) == "https://label.example.com/studio/projects/3/data?task=8"


@pytest.fixture
def form() -> FlaskClient:
    """A page with a form, on an app of its own."""
    app, own = Flask("form"), pages.blueprint("form")
    own.add_url_rule("/form", view_func=lambda: Response("done"), methods=["GET", "POST"])
    app.register_blueprint(own)
    return app.test_client()


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"Sec-Fetch-Site": "cross-site"}, 200),
        ("POST", {}, 200),
        ("POST", {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, 200),
        ("POST", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", {"Sec-Fetch-Site": "same-site"}, 403),
        ("POST", {"Origin": "http://evil.example"}, 403),
        ("POST", {"Origin": "null"}, 403),
    ],
)
def test_other_sites_may_look_but_not_change(
    form: FlaskClient, method: str, headers: dict[str, str], status: int
) -> None:
    assert form.open("/form", method=method, headers=headers).status_code == status


def test_every_page_of_the_app_is_guarded_so() -> None:
    for own in PAGES:
        assert app.before_request_funcs[own.name] == [pages._refuse_other_sites]
