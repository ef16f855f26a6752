"""`python -m backend corrections`: what annotators changed, and what follows for thresholds and settings."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from tqdm import tqdm

from backend import store
from backend.corrections.corrector import Corrector
from backend.corrections.proposals import Kept, Proposal, ProposalError, apply, control_attributes, kept
from backend.corrections.records import Corrections
from backend.corrections.report import as_csv, as_json, as_text, report
from backend.labeling.parsing import ConfigError
from backend.settings import Settings, load_settings
from backend.studio.client import Studio, StudioError
from model.memory import MemoryFileError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    of = parser.add_mutually_exclusive_group(required=True)
    of.add_argument("--project", type=int, metavar="ID", help="a project of Label Studio")
    of.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="calibrate on a folder of `python -m model evaluate` instead: its masks stand for corrections",
    )
    parser.add_argument("--rebuild", action="store_true", help="compare every annotation in Label Studio anew first")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a report with pictures of the worst tasks")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write one line per label of each annotation")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--calibrate", action="store_true", help="propose thresholds from what was corrected")
    parser.add_argument(
        "--settings", action="store_true", help="with --calibrate: try eta and lambda too; runs the model"
    )
    parser.add_argument(
        "--miss-at-most",
        type=float,
        metavar="PERCENT",
        help="with --calibrate: the highest thresholds that miss at most so many of a task's labels, in the mean",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the split of tasks (default 0)")
    parser.add_argument("--seeds", type=int, metavar="N", help="with --folder: so many splits, and their spread")
    parser.add_argument(
        "--memory",
        metavar="FILE",
        help="make a memory of corrected regions, if it helps; a bare name lies in CAR_MEMORY; runs the model",
    )
    parser.add_argument(
        "--forget", type=int, action="append", default=[], metavar="TASK", help="with --memory: what this task taught"
    )
    parser.add_argument(
        "--rename", action="append", default=[], metavar="OLD=NEW", help="with --folder --memory: another word"
    )
    parser.add_argument(
        "--wrong", type=float, default=0.0, metavar="PERCENT", help="with --folder --memory: regions mislabelled"
    )
    parser.add_argument("--apply", action="store_true", help="write what is proposed into the labeling config")


def run(args: argparse.Namespace) -> int:
    """Do what is asked, in this order: rebuild, calibrate, apply, report; 1 when something does not answer."""
    wrong = _contradiction(args)
    if wrong:
        print(wrong, file=sys.stderr)
        return 2
    settings = load_settings()
    try:
        if args.folder:
            from backend.corrections.calibrate_folder import calibrate_folder  # torch
            from backend.corrections.teach import teach_folder

            return (teach_folder if args.memory else calibrate_folder)(args, settings)
        return _of_project(args, settings)
    except RedisError as error:
        print(f"Redis does not answer: {error}. Start it, or correct REDIS_URL.", file=sys.stderr)
    except (StudioError, ConfigError, ProposalError, MemoryFileError) as error:
        print(error, file=sys.stderr)
    return 1


def _contradiction(args: argparse.Namespace) -> str:
    if (args.settings or args.miss_at_most is not None) and not args.calibrate:
        return "--settings and --miss-at-most go with --calibrate."
    if args.settings and args.miss_at_most is not None:
        return "--miss-at-most chooses thresholds only: leave out --settings."
    if args.miss_at_most is not None and not 0 < args.miss_at_most < 100:
        return "--miss-at-most takes a percentage between 0 and 100."
    if args.folder and (bool(args.calibrate) == bool(args.memory) or _asks_for_project(args)):
        return "--folder goes with --calibrate or --memory, and has no project to report or to change."
    if args.memory and args.calibrate:
        return "--memory and --calibrate are tried one after the other: apply one first."
    if (args.rename or args.wrong) and not (args.folder and args.memory):
        return "--rename and --wrong are experiments with --folder --memory."
    if not 0 <= args.wrong <= 100:
        return "--wrong takes a percentage from 0 to 100."
    if args.forget and not args.memory:
        return "--forget goes with --memory, which names the file."
    return ""


def _asks_for_project(args: argparse.Namespace) -> bool:
    return bool(args.rebuild or args.apply or args.html or args.csv or args.forget)


def _of_project(args: argparse.Namespace, settings: Settings) -> int:
    redis = store.connect(settings.redis_url, patient=False)
    studio = Studio(settings.label_studio_url, settings.label_studio_api_key.get_secret_value())
    corrector = Corrector(redis, settings, studio)
    if args.rebuild:
        compared = sum(1 for _ in tqdm(corrector.rebuild(args.project), desc="compared", unit=" tasks"))
        print(f"{compared} tasks of project {args.project} are compared.", file=sys.stderr)
    if args.calibrate:
        _calibrate(args, settings, corrector)
    if args.memory:
        _teach(args, settings, corrector)
    if args.apply:
        done = apply(redis, settings, studio, args.project)
        print(f"Written into the labeling config: {as_attributes(done.proposal)}", file=sys.stderr)
    _report(args, redis, settings, studio)
    return 0


def _calibrate(args: argparse.Namespace, settings: Settings, corrector: Corrector) -> None:
    if args.settings:
        from backend.corrections.calibrate_project import calibrate_project  # torch

        found = calibrate_project(corrector, settings, args.project, args.seed)
    else:
        share = None if args.miss_at_most is None else args.miss_at_most / 100
        found = corrector.propose(args.project, args.seed, share)
    _served(args, found)


def _teach(args: argparse.Namespace, settings: Settings, corrector: Corrector) -> None:
    from backend.corrections.teach import forget, teach_project  # torch

    if args.forget:
        _served(args, forget(corrector, settings, args.project, args.memory, args.forget))
    else:
        _served(args, teach_project(corrector, settings, args.project, args.memory, args.seed))


def _served(args: argparse.Namespace, found: Kept | None) -> None:
    if found is None:
        raise ProposalError(f"Label Studio has no project {args.project}, or its control has model_skip.")


def _report(args: argparse.Namespace, redis: Redis, settings: Settings, studio: Studio) -> None:
    corrections = Corrections(redis, settings).newest(args.project)
    found, proposal = report(args.project, corrections), kept(redis, args.project)
    if args.csv:
        args.csv.write_text(as_csv(corrections), encoding="utf-8")
    if args.html:
        from backend.corrections.file import write_html  # matplotlib

        write_html(args.html, found, corrections, proposal, studio, settings)
    if args.json:
        print(json.dumps({**as_json(found), "proposal": asdict(proposal) if proposal else None}, indent=1))
        return
    print(as_text(found))
    if proposal:
        print(f"\nCalibration: {proposal.proposal.reason}")
        if proposal.proposal.accepted:
            print(f"--apply writes into the labeling config: {as_attributes(proposal.proposal)}")


def as_attributes(proposal: Proposal) -> str:
    """What a proposal writes, as attributes of the labeling config."""
    control = [f'{name}="{value}"' for name, value in control_attributes(proposal).items()]
    labels = [f'{label}: model_score_threshold="{value:g}"' for label, value in proposal.thresholds.items()]
    return "; ".join([*([" ".join(control)] if control else []), *labels])
