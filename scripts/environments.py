"""Makes the project's virtual environments from the locks, and says what the machine lacks. Standard library only.

    python scripts/environments.py product | tools | label-studio | browser ...

`product` is .venv with what the product needs, `tools` is the same with what tests need on top, `label-studio` is
.venv-label-studio, and `browser` is the Chromium of the browser tests. What is up to date is left alone: an
environment remembers the checksum of the lock that it was made from. `product` only ever adds to an environment;
`tools` and `label-studio` also remove what their lock does not have.
"""

import hashlib
import platform
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = "uv==0.13.8"
STAMP = ".made-from"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# environment -> (its folder, its lock, what is said about it)
ENVIRONMENTS = {
    "product": (".venv", "requirements.txt", "the product: PyTorch and its CUDA libraries, about 3 GB to download"),
    "tools": (".venv", "requirements-dev.txt", "the product and its tools: about 3 GB to download"),
    "label-studio": (".venv-label-studio", "requirements-label-studio.txt", "Label Studio: about 150 MB to download"),
}


class SetupError(Exception):
    """The machine lacks something; the message says how to get it."""


def say(text):
    """Print a line at once, so that it stands before what the next program prints."""
    print(text, flush=True)


def main(wanted):
    """Make every environment in `wanted`; return the exit code."""
    try:
        for name in wanted:
            if name == "browser":
                get_browser()
            elif name in ENVIRONMENTS:
                make_environment(name)
            else:
                raise SetupError(f"There is no environment {name!r}: {', '.join([*ENVIRONMENTS, 'browser'])}.")
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def make_environment(name):
    """Make one virtual environment from its lock, unless it was made from this very lock."""
    folder, lock, about = ROOT / ENVIRONMENTS[name][0], ROOT / ENVIRONMENTS[name][1], ENVIRONMENTS[name][2]
    stamp = folder / STAMP
    made_from = stamp.read_text().split() if stamp.exists() else []
    if checksum(lock) in made_from:
        return
    check_machine()
    uv = find_uv()
    began = time.monotonic()
    say(f"Setting up {folder.name} for {about}.")
    stamp.unlink(missing_ok=True)
    python = str(folder / "bin" / "python")
    is_there = works([python, "-c", f"import sys; raise SystemExit(sys.version_info[:2] != {sys.version_info[:2]})"])
    if not is_there:
        run([*uv, "venv", "--quiet", "--clear", "--no-python-downloads", "--python", sys.executable, str(folder)])
    # Where the product comes to what is there already, it takes nothing away: neither tests' tools nor anybody's own.
    adds = name == "product" and is_there
    verb = ["install", "--no-deps", "--require-hashes", "--requirements"] if adds else ["sync"]
    run([*uv, "pip", *verb, str(lock), "--python", python])
    # The tools contain the product, so that a run after the tests needn't take them away.
    contained = [ROOT / "requirements.txt"] if name == "tools" else []
    stamp.write_text("".join(f"{checksum(path)}\n" for path in [lock, *contained]))
    say(f"{folder.name} is ready after {time.monotonic() - began:.0f} s.")


def checksum(path):
    """Return the checksum of a file, with that of the Python in use: another one needs another environment."""
    return hashlib.sha256(f"{sys.version_info[:2]} {path.name}\n".encode() + path.read_bytes()).hexdigest()


def check_machine():
    """Raise SetupError with the exact line that installs what is missing."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        raise SetupError(
            f"This runs on Linux x86-64 only, not on {sys.platform} {platform.machine()}. Use Docker there."
        )
    missing = []
    if not shutil.which("g++") and not shutil.which("c++"):
        missing.append("compiler")
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        missing.append("headers")
    if missing:
        needed = {"compiler": "a C++ compiler", "headers": "the header files of Python"}
        raise SetupError(
            f"Missing: {' and '.join(needed[one] for one in missing)} (pydensecrf is built from source).\n"
            f"Install it with:  {install_line(missing)}"
        )


def install_line(missing):
    """Return the command that installs what is missing with this machine's package manager."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if shutil.which("apt-get"):
        names = {"compiler": "g++", "headers": f"python{version}-dev", "venv": f"python{version}-venv"}
        command = "apt-get install"
    elif shutil.which("dnf"):
        names = {"compiler": "gcc-c++", "headers": f"python{version}-devel", "venv": f"python{version}-pip"}
        command = "dnf install"
    else:
        return "the package manager of this system, then start again."
    return f"sudo {command} {' '.join(names[one] for one in missing)}"


def find_uv():
    """Return the command of uv: the one on PATH, else one of our own in .uv, got with pip."""
    if shutil.which("uv") and works(["uv", "--version"]):
        return ["uv"]
    own = ROOT / ".uv" / "bin" / "uv"
    if not works([str(own), "--version"]):
        say("Getting uv, which installs packages, into .uv.")
        shutil.rmtree(ROOT / ".uv", ignore_errors=True)
        # In folders of its own: systems that guard their Python (PEP 668) refuse anything else.
        if works([sys.executable, "-m", "venv", str(ROOT / ".uv")]):
            run([str(ROOT / ".uv" / "bin" / "python"), "-m", "pip", "install", "--quiet", UV])
        elif works([sys.executable, "-m", "pip", "--version"]):
            run([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(ROOT / ".uv"), UV])
        else:
            raise SetupError(f"Python can't make virtual environments.\nInstall it with:  {install_line(['venv'])}")
    return [str(own)]


def get_browser():
    """Find a Chromium for the browser tests, or let playwright download one."""
    if any(shutil.which(name) for name in BROWSERS):
        return
    playwright = [str(ROOT / ".venv" / "bin" / "python"), "-m", "playwright"]
    if works([*playwright, "install", "--list"], lambda said: "chromium" in said):
        return
    say("Getting Chromium for the browser tests.")
    if subprocess.call([*playwright, "install", "chromium"]) != 0:
        raise SetupError(
            "There is no Chromium for the browser tests, and none can be downloaded.\n"
            "Install it with:  sudo apt-get install chromium fonts-dejavu-core"
        )


def works(command, accept=lambda said: True):
    """Tell whether a command runs and prints what is accepted."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and accept(done.stdout)


def run(command):
    """Run a command that shows its own progress. Raises SetupError when it fails."""
    code = subprocess.call(command)
    if code != 0:
        raise SetupError(f"This failed with exit code {code}; the reason stands above:\n  {' '.join(command)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
