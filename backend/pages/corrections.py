"""The page `/corrections`: how good the predictions of a project are, judged by what annotators changed."""

from __future__ import annotations

from flask import Response, request
from redis.exceptions import RedisError

from backend.corrections.proposals import kept
from backend.corrections.records import OUTLINE, Corrections
from backend.pages.base import blueprint, predictor, render, task_link

pages = blueprint("corrections")

NEWEST = 1_000
"""Tasks that the page sums up; the command takes all."""


@pages.get("/corrections")
def corrections() -> Response:
    """GET /corrections?project=ID: without a project the first one of which corrections are kept."""
    from backend.corrections.report import report  # numpy: only once somebody looks

    settings = predictor().settings
    known = Corrections(predictor().redis, settings)
    try:
        projects = known.projects()
        project = request.args.get("project", projects[0] if projects else 0, type=int)
        found = report(project, known.newest(project, NEWEST))
        proposal = kept(predictor().redis, project)
    except RedisError as error:
        return render("corrections.html", "Corrections", error=str(error))
    return render(
        "corrections.html",
        f"Corrections of project {project}" if project else "Corrections",
        found=found,
        project=project,
        projects=projects,
        proposal=proposal,
        unit=OUTLINE,
        link=lambda task: task_link(settings, project, task),
    )
