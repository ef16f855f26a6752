"""`python -m model presets`: list the presets, or the settings of one."""

import argparse

from model.commands.common import Commands
from model.presets import ORIGINS, PRESETS, preset, settings


def add(commands: Commands) -> None:
    """Describe the command and its flags."""
    presets = commands.add_parser("presets", help="list the presets, or the settings of one")
    presets.add_argument("name", nargs="?", metavar="NAME")
    presets.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """List the presets, or every setting of one: its value and what it means."""
    if options.name is None:
        for name, values in PRESETS.items():
            print(f"{name:18} {values.checksum}  eta {values.eta}, theta {values.theta}, lambda {values.lambda_}")
        return 0
    chosen, origin = preset(options.name), ORIGINS[options.name]
    print(f"# {origin.source}")
    for name, setting in settings().items():
        value = getattr(chosen, setting.name)
        print(f"{name} = {','.join(value) if isinstance(value, tuple) else value}\n    {setting.metadata['doc']}")
        if name in origin.notes:
            print(f"    ({origin.notes[name]})")
    return 0
