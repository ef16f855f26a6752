"""`python -m model regions`: time the matching of masks with regions, or HQ-SAM stage by stage."""

import argparse
import json
from dataclasses import asdict

from model.commands.common import Commands, add_settings, chosen, count


def add(commands: Commands) -> None:
    """Describe the command and its flags."""
    regions = commands.add_parser("regions", help="time the matching of masks with regions, or HQ-SAM")
    regions.add_argument(
        "--sam", action="store_true", help="HQ-SAM (see --set sam_model, sam_weights, points_per_side)"
    )
    regions.add_argument("--masks", type=count, default=20, metavar="N", help="how many to match (default: 20)")
    regions.add_argument("--proposals", type=count, default=1000, metavar="N", help="with how many (default: 1000)")
    regions.add_argument("--side", type=count, default=1024, metavar="N", help="of the square image (default: 1024)")
    regions.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    add_settings(regions)
    regions.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, and print a table or JSON."""
    from model.region_benchmark import time_matching, time_sam

    if options.sam:
        stages = time_sam(chosen(options), options.device)
        head = f"HQ-SAM {stages.model} on {stages.device}: {stages.asked} points, {stages.proposals} proposals"
        figures = asdict(stages)
        rows = [
            f"{name:28}{stages.wall[name]:9.2f} s{spent:9.2f} s of processors" for name, spent in stages.cpu.items()
        ]
    else:
        matching = time_matching(options.masks, options.proposals, options.side)
        head = (
            f"{matching.masks} masks, {matching.proposals} proposals of {matching.runs} runs, "
            f"{matching.side} x {matching.side} pixels; overlaps {'' if matching.equal else 'NOT '}equal to naive loops"
        )
        figures = asdict(matching)
        spent = {"read": matching.read, "match": matching.match, "naive loops": matching.naive}
        rows = [f"{name:28}{seconds:9.3f} s of a processor" for name, seconds in spent.items()]
    print(json.dumps(figures) if options.json else "\n".join([head, *rows]))
    return 0 if options.sam or matching.equal else 1
