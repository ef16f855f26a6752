"""Checks of what this process sees for itself: the settings, the way out for images, disk and memory."""

from __future__ import annotations

import difflib
import ipaddress
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from backend.doctor.findings import Finding, ok, problem, unknown
from backend.images.decoding import ImageError, ImageUnavailable
from backend.images.guard import Guard
from backend.settings import Settings, SettingsError, load_settings

ELSEWHERE = ("CAR_MODELS", "CAR_SCREENSHOTS")
"""Variables that are read without being settings of the service."""
ROOM = 2**30
"""Bytes of disk and of memory below which something is about to go wrong."""
METADATA = "169.254.169.254"
"""Where clouds keep the credentials of a machine: no image comes from there."""


def check_settings(env: Mapping[str, str]) -> tuple[Settings | None, list[Finding]]:
    """The settings, None when they cannot work, and a finding for each bad or misspelt one."""
    try:
        settings = load_settings()
    except SettingsError as error:
        wrong = [line.strip() for line in str(error).splitlines()[1:]]
        return None, [problem("settings", line, f"Correct or unset {line.partition(':')[0]}.") for line in wrong]
    names = [*(name.upper() for name in Settings.model_fields), *ELSEWHERE]
    strange = sorted(name for name in env if name.startswith("CAR_") and name not in names)
    if not strange:
        return settings, [ok("settings", f"preset {settings.car_preset}, Label Studio at {settings.label_studio_url}")]
    return settings, [_misspelt(name, names) for name in strange]


def _misspelt(name: str, names: list[str]) -> Finding:
    close = difflib.get_close_matches(name, names, 1)
    meant = f"Did you mean {close[0]}? " if close else ""
    return problem("settings", f"{name} is set, but there is no such setting.", f"{meant}Rename or unset {name}.")


def check_guard(settings: Settings) -> list[Finding]:
    """Whether image addresses, which users write, are kept from the private network."""
    check = "private addresses"
    for entry in settings.car_allowed_hosts:
        if not _is_host(entry):
            host = urlsplit(entry if "//" in entry else f"//{entry}").hostname or "minio"
            fix = f"Write the host alone, without scheme, port or path: {host}."
            return [problem(check, f"CAR_ALLOWED_HOSTS has {entry!r}, which no host is ever equal to.", fix)]
    parts = urlsplit(settings.label_studio_url)
    guard = Guard((parts.hostname or "", parts.port or 80), settings.car_allowed_hosts)
    for address, what in ((METADATA, "the cloud's credentials"), ("127.0.0.1", "services of the worker's own host")):
        if _reaches(guard, address):
            fix = "Name only the hosts that images come from in CAR_ALLOWED_HOSTS."
            return [problem(check, f"CAR_ALLOWED_HOSTS lets image addresses reach {address}: {what}.", fix)]
    allowed = ", ".join(settings.car_allowed_hosts) or "nobody else"
    return [ok(check, f"refused, but for Label Studio itself ({parts.netloc.rpartition('@')[2]}) and {allowed}")]


def _is_host(entry: str) -> bool:
    try:
        ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return re.fullmatch(r"[\w.-]+", entry) is not None
    return True


def _reaches(guard: Guard, address: str) -> bool:
    try:
        guard.addresses(address, 1)
    except (ImageError, ImageUnavailable):
        return False
    return True


def check_room(folder: Path, meminfo: Path = Path("/proc/meminfo")) -> Iterator[Finding]:
    """Whether this machine has disk and memory left."""
    free = shutil.disk_usage(folder).free
    if free < ROOM:
        yield problem(
            "disk", f"{_gigabytes(free)} are free at {folder}.", "Free some: logs, images and weights need it."
        )
    else:
        yield ok("disk", f"{_gigabytes(free)} free at {folder}")
    try:
        found = re.search(r"^MemAvailable: +(\d+) kB", meminfo.read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found is None:
        yield unknown("memory", f"{meminfo} does not tell.")
    elif (available := int(found[1]) * 1024) < ROOM:
        fix = "Stop something, or give the machine more: a worker that runs out of memory is killed."
        yield problem("memory", f"{_gigabytes(available)} are available.", fix)
    else:
        yield ok("memory", f"{_gigabytes(available)} available")


def _gigabytes(number: float) -> str:
    return f"{number / 2**30:.1f} GB"
