"""What the commands share: the flags that choose settings and weights, and the segmenter they load."""

import argparse
import sys
from typing import TYPE_CHECKING, TypeAlias

from model.presets import PresetError, preset

if TYPE_CHECKING:
    from model.segmenter import Segmenter
    from model.settings import Preset

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_settings(command: argparse.ArgumentParser, preset: str | None = "demo", default: str = "demo") -> None:
    """Add the flags that choose a preset, its weights, single settings and the device."""
    command.add_argument("--preset", default=preset, metavar="NAME", help=f"which settings (default: {default})")
    command.add_argument("--weights", metavar="demo|random|DIR", help="instead of the preset's own")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another setting's value")
    command.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")


def chosen(options: argparse.Namespace) -> "Preset":
    """Return the preset with the settings that `--set` changes. Raises PresetError."""
    return preset(options.preset, overrides(options))


def overrides(options: argparse.Namespace) -> dict[str, str]:
    """Return what `--set` changes, by the setting's name. Raises PresetError."""
    pairs = [item.partition("=") for item in options.set]
    if not all(sign for _, sign, _ in pairs):
        raise PresetError("--set takes NAME=VALUE.")
    return {name: value for name, _, value in pairs}


def load(options: argparse.Namespace) -> "Segmenter":
    """Load the weights. Torch is imported here, so that what needs none is quick."""
    from model.segmenter import Segmenter

    return Segmenter(chosen(options), options.device, options.weights)


def count(text: str, least: int = 1) -> int:
    """Read a whole number of at least `least`, as a flag's type."""
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise argparse.ArgumentTypeError(f"needs a number from {least} up, not {text!r}")
    return int(text)


def share(text: str) -> float:
    """Read a share, 0 to 1, as a flag's type."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"needs a share from 0 to 1, not {text!r}")
    return value


def run(options: argparse.Namespace) -> int:
    """Run the command that was chosen; return its exit code, or 2 with a message on stderr when the input is wrong."""
    try:
        code: int = options.run(options)
    except (ValueError, OSError, RuntimeError) as error:
        if not meant_for_users(error):
            raise
        print(f"{options.command}: {error}", file=sys.stderr)
        return 2
    return code


def meant_for_users(error: Exception) -> bool:
    """Whether an error is one of ours, whose message says what to do, or a file that cannot be opened."""
    return type(error).__module__.startswith("model.") or isinstance(error, OSError)
