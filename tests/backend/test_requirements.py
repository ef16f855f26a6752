"""The web process has requirements of its own: a part of all, with the same versions, and enough for its commands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from backend.__main__ import COMMANDS

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "torchvision", "open-clip-torch", "triton", "timm", "scipy", "pydensecrf2", "segment-anything-hq")
OF_WORKERS = ("torch", "torchvision", "open_clip", "triton", "timm", "scipy", "skimage", "pydensecrf")


def locked(name: str) -> dict[str, str]:
    """Package -> version, as a lock has them."""
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


def test_it_is_a_part_of_all_requirements_with_the_same_versions() -> None:
    whole, web = locked("requirements.txt"), locked("requirements-web.txt")
    assert web.items() < whole.items()
    assert whole.items() <= locked("requirements-dev.txt").items()
    assert not web.keys() & set(HEAVY)
    assert not [name for name in web if name.startswith(("nvidia", "cuda"))]
    assert whole.keys() >= set(HEAVY)


def test_nothing_of_the_workers_is_imported() -> None:
    """What the web image runs, as if what only workers have were not installed."""
    modules = ["app", "courier", "corrections.file", "export.exporter", "doctor.examine", "images.fetcher"]
    modules += [f"commands.{name}" for name in COMMANDS]  # the worker's, too: it imports torch only when it runs
    code = f"import sys\nsys.modules.update(dict.fromkeys({OF_WORKERS!r}))\n"
    code += "".join(f"import backend.{module}\n" for module in modules)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_command_that_needs_the_model_says_so() -> None:
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name in {OF_WORKERS!r}: raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"from backend.__main__ import main\nsys.exit(main(['worker']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "needs torch, which is not installed here" in done.stderr
    assert "Install requirements.txt" in done.stderr
    assert "Traceback" not in done.stderr
