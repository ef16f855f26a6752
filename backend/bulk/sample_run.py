"""`python -m backend prelabel --sample N`: tries the words, tells what came of it, and writes the page."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from tqdm import tqdm

from backend.bulk import sample
from backend.bulk.run import Plan, hindrance, workers
from backend.bulk.sample_page import page
from backend.bulk.tally import as_text
from backend.images.fetcher import fetcher_of
from backend.labeling.parsing import LabelingConfig
from backend.queue.jobs import Jobs
from backend.studio.client import Studio

STDOUT = Path("-")
"""As the name of a page: it goes to standard output, and all words to standard error."""


def try_sample(studio: Studio, jobs: Jobs, plan: Plan, count: int, html: Path | None, stop: threading.Event) -> int:
    """Try `count` tasks of a plan; 0 when all of them could be segmented."""
    words = sys.stderr if html == STDOUT else sys.stdout
    trials = sample.choose(studio, plan, count)
    sample.ask(jobs, trials)
    if why := hindrance(jobs, plan.project):
        print(why, file=sys.stderr)
    with tqdm(desc="sample", total=len(trials), unit="task") as bar:

        def show(finished: int) -> None:
            bar.update(finished - bar.n)

        if not sample.wait(jobs, trials, stop, show):
            print("Stopped. What is queued of the sample is still done; ask again to see it.", file=words)
            return 1
    looked = sample.read(jobs, trials)
    found, left = sample.tally_of(looked, plan.config), sample.estimate(looked, plan.todo, workers(jobs))
    lines = [f"Tried, and stored nowhere: {plan.version}", *vocabulary_lines(plan.config), as_text(found)]
    lines += [f"  {failed} x {reason}" for reason, failed in found.failed.most_common()]
    print("\n".join([*lines, sample.estimate_text(left)] if left else lines), file=words)
    if html is not None:
        title = f"Sample of project {plan.project}, {plan.version}"
        fetch = fetcher_of(jobs.settings, studio.authorization).fetch
        _write(page(title, plan.config, looked, found, left, fetch), html)
    return 1 if found.failed else 0


def _write(text: str, html: Path) -> None:
    if html == STDOUT:
        print(text)
    else:
        html.write_text(text, encoding="utf-8")
        print(f"The page is {html}")


def vocabulary_lines(config: LabelingConfig) -> list[str]:
    """What is looked for, a line for each label."""
    limits = {value: f", from {threshold:g} on" for value, threshold in config.thresholds().items()}
    return [f"  {one.value}: {' | '.join(one.prompts)}{limits.get(one.value, '')}" for one in config.labels]
