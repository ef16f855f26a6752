"""`python -m backend prelabel`: a whole project, with progress; or some tasks of it, to try the words first."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from backend.bulk.progress import ProgressBar, watch
from backend.bulk.refresh import check_images, count_suspects, replace_old
from backend.bulk.run import WINDOW, Bulk, BulkError, Plan, hindrance, make_plan, read_config, workers
from backend.bulk.sample_run import try_sample, vocabulary_lines
from backend.bulk.tally import Tally, as_text, tally
from backend.commands.common import with_redis
from backend.labeling.overrides import OverrideError, Overrides, read_ontology, read_thresholds
from backend.labeling.parsing import ConfigError
from backend.queue.failures import requeue_command
from backend.queue.jobs import Jobs
from backend.reconcile import Served, reconciler_of
from backend.studio.client import Studio, StudioError
from backend.words import duration

RULE = (
    "--ontology and --threshold change what is looked for. Try them with --sample (or look at --dry-run); for the "
    "whole project they belong into its labeling config, where people see them: --write-config puts them there."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--project", type=int, required=True, metavar="ID", help="the project's number in its address")
    parser.add_argument("--only-unlabelled", action="store_true", help="leave out tasks that have an annotation")
    parser.add_argument("--refresh", action="store_true", help="then delete our predictions of older versions")
    parser.add_argument("--dry-run", action="store_true", help="tell what would be done, and do nothing")
    parser.add_argument("--sample", type=_count, metavar="N", help="try N tasks; Label Studio gets nothing of it")
    parser.add_argument("--html", type=Path, metavar="FILE", help="with --sample: a page of the masks (- prints it)")
    parser.add_argument("--ontology", type=Path, metavar="FILE", help='other prompts, as {"prompt": "label"}')
    parser.add_argument(
        "--threshold", action="append", default=[], metavar="LABEL=0.4", help="another threshold; may be repeated"
    )
    parser.add_argument("--write-config", action="store_true", help="write these into the labeling config, then go on")
    parser.add_argument("--window", type=_count, default=WINDOW, metavar="N", help="tasks queued at once (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object, on the last line")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Pre-label, or try; 0 when every task has its prediction, 1 when not, 2 when nothing was begun."""
    try:
        overrides = _overrides(args)
        return with_redis(lambda jobs: _run(args, jobs, overrides))
    except (BulkError, OverrideError, ConfigError, StudioError) as error:
        print(error, file=sys.stderr)
        return 2


def _overrides(args: argparse.Namespace) -> Overrides:
    overrides = Overrides(read_ontology(args.ontology) if args.ontology else {}, read_thresholds(args.threshold))
    tried = bool(args.sample or args.dry_run)
    if args.html and not args.sample:
        raise OverrideError("--html shows a sample: say --sample 20, too.")
    if args.html and not args.html.parent.is_dir():
        raise OverrideError(f"--html: there is no folder {args.html.parent}.")
    if args.write_config and (tried or not overrides):
        raise OverrideError(
            f"--write-config goes with --ontology or --threshold, without --sample or --dry-run. {RULE}"
        )
    if overrides and not (tried or args.write_config):
        raise OverrideError(RULE)
    if args.refresh and tried:
        raise OverrideError("--refresh deletes old predictions; --sample and --dry-run change nothing.")
    return overrides


def _run(args: argparse.Namespace, jobs: Jobs, overrides: Overrides) -> int:
    settings = jobs.settings
    studio = Studio(settings.label_studio_url, settings.label_studio_api_key.get_secret_value())
    config = overrides.apply(read_config(studio, args.project, settings))
    if args.write_config:
        _write_config(studio, args.project, overrides)
    if not (args.sample or args.dry_run):
        _check_images(studio, jobs, Served(args.project, config, config.version(settings.car_weights)))
    plan = make_plan(studio, args.project, config, config.version(settings.car_weights), args.only_unlabelled)
    with Stop() as stop:
        if args.sample:
            return try_sample(studio, jobs, plan, args.sample, args.html, stop)
        if args.dry_run:
            return _dry_run(args, studio, jobs, plan)
        return _prelabel(args, studio, jobs, plan, stop)


class Stop(threading.Event):
    """Set by Ctrl-C and SIGTERM while the block runs; a second Ctrl-C ends at once."""

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _stop(self, number: int, frame: object) -> None:
        self.set()
        signal.signal(number, self._before[signal.Signals(number)])

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _write_config(studio: Studio, project: int, overrides: Overrides) -> None:
    found = studio.project(project) or {}
    studio.update_project(project, label_config=overrides.write(found["label_config"]))
    print(f"The labeling config of project {project} is changed; what was queued for the old one is cancelled.")


def _check_images(studio: Studio, jobs: Jobs, project: Served) -> None:
    """Predictions of images that were replaced since make room, so that their tasks count as to be done."""
    reconciler = reconciler_of(jobs.redis, jobs.settings, studio)
    with tqdm(desc="images compared", unit="task", file=sys.stderr, disable=None) as bar:
        for count in check_images(reconciler, project):
            bar.update(count)


def _prelabel(args: argparse.Namespace, studio: Studio, jobs: Jobs, plan: Plan, stop: Stop) -> int:
    bulk = Bulk(studio, jobs, plan, min(args.window, jobs.settings.car_queue_limit))
    over = False
    with logging_redirect_tqdm(), ProgressBar(plan) as bar:
        try:
            over = watch(bulk, bar, stop)
        except (BulkError, StudioError) as error:
            bar.bar.write(f"Nothing more is asked for: {error}", file=bar.bar.fp)
    replaced = 0
    if args.refresh and over and not bulk.outdated:
        for count in tqdm(replace_old(studio, plan.project, plan.version), desc="older predictions", unit="task"):
            replaced += count
            if stop.is_set():
                over = False
                break
    found = _tally(jobs, plan)
    progress = bulk.progress
    finished = over and bulk.walked and not (progress.failed or progress.cancelled)
    print(_summary(plan, bulk, found, replaced, over))
    if args.json:
        counts = {"done": progress.done, "failed": dict(progress.failed), "cancelled": progress.cancelled}
        counts |= {"replaced": replaced, "finished": finished, "tally": found.to_json()}
        print(json.dumps({**_facts(plan), **counts}))
    return 0 if finished else 1


def _summary(plan: Plan, bulk: Bulk, found: Tally, replaced: int, over: bool) -> str:
    progress, again = bulk.progress, f"python -m backend prelabel --project {plan.project}"
    before = plan.total - plan.todo
    lines = [f"Project {plan.project}, {plan.version}: {progress.done} tasks now, {before} before, of {plan.total}."]
    if found.done:
        lines.append(as_text(found))
    failed = found.failed | progress.failed  # what has no image has no ticket; what failed earlier is not of this run
    if failed:
        lines.append(
            f"{failed.total()} failed; once the cause is mended: {requeue_command(plan.project, None)}; {again}"
        )
        lines += [f"  {count} x {reason}" for reason, count in failed.most_common(10)]
    if replaced:
        lines.append(f"{replaced} predictions of older versions made room for the new ones.")
    if bulk.outdated or progress.cancelled:
        why = "the labeling config was changed" if bulk.outdated else f"{progress.cancelled} tasks were cancelled"
        lines.append(f"Stopped because {why} meanwhile. To go on: {again}")
    elif not over:
        lines.append(f"Stopped. What is queued is still done; to go on: {again}; to drop it: {_cancel_command(plan)}")
    return "\n".join(lines)


def _cancel_command(plan: Plan) -> str:
    return f"python -m backend cancel --project {plan.project}"


def _dry_run(args: argparse.Namespace, studio: Studio, jobs: Jobs, plan: Plan) -> int:
    found, alive = _tally(jobs, plan), workers(jobs)
    lines = [f"Project {plan.project}, {plan.version}: {plan.todo} of {plan.total} tasks would be asked for."]
    unknown = count_suspects(
        reconciler_of(jobs.redis, jobs.settings, studio), Served(plan.project, plan.config, plan.version)
    )
    if unknown:
        lines.append(f"{unknown} more have a prediction that would be compared with their present images first.")
    lines += vocabulary_lines(plan.config)
    if found.seconds is not None:
        needed = duration(found.seconds * plan.todo / max(alive, 1))
        lines.append(f"At {found.seconds:.1f} s each, as so far, that is {needed}.")
    lines.append(hindrance(jobs, plan.project) or f"Workers alive: {alive}.")
    print("\n".join(lines))
    if args.json:
        print(json.dumps(_facts(plan)))
    return 0


def _facts(plan: Plan) -> dict[str, int | str]:
    return {"project": plan.project, "version": plan.version, "total": plan.total, "todo": plan.todo}


def _tally(jobs: Jobs, plan: Plan) -> Tally:
    return tally(jobs, plan.project, plan.version, [label.name for label in plan.config.labels])
