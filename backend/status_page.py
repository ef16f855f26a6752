"""The status page, `/`: what is queued, who works on what, what went wrong and what to do about it."""

from __future__ import annotations

from flask import Response

from backend.pages import blueprint, render

pages = blueprint("status")

REFRESH_SECONDS = 3


def status() -> Response:
    """GET /: the page."""
    return render("status.html", "Status", REFRESH_SECONDS)
