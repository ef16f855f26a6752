"""The Label Studio of a local run: unattended, on the loopback interface, with one known user."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import requests
from requests.auth import HTTPBasicAuth

from backend.local.ports import HOST
from backend.local.processes import LocalError, Program

EMAIL, PASSWORD = "demo@example.com", "label-studio"
"""The login of the demo. It is no secret: only this machine can reach the server."""

FIRST_START = 300.0
"""Seconds allowed for a first start: Label Studio 1.23 takes 25 s for its migrations on two quick cores."""

# Label Studio 1.23 bans these by default, and with them 127.0.0.0/8 and ::1/128, where our backend listens. The list
# can only be switched off whole, so all of it but the loopback is banned again: everything else stays closed.
BANNED_SUBNETS = (
    "0.0.0.0/8,10.0.0.0/8,100.64.0.0/10,169.254.0.0/16,172.16.0.0/12,192.0.0.0/24,192.0.2.0/24,192.88.99.0/24,"
    "192.168.0.0/16,198.18.0.0/15,198.51.100.0/24,203.0.113.0/24,224.0.0.0/4,233.252.0.0/24,240.0.0.0/4,"
    "255.255.255.255/32,::/128,::ffff:0:0/96,::ffff:0:0:0/96,64:ff9b::/96,64:ff9b:1::/48,100::/64,2001:0000::/32,"
    "2001:20::/28,2001:db8::/32,2002::/16,fc00::/7,fe80::/10,ff00::/8"
)

# What a program needs of the person's environment. The rest stays away: Label Studio reads settings from plain names
# (HOST, DEBUG, DJANGO_DB, ...), so that a variable meant for something else would change it.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LD_LIBRARY_PATH", "SSL_CERT_FILE")


@dataclass(frozen=True)
class Account:
    """The one user that Label Studio creates at its first start."""

    email: str
    password: str
    token: str
    """The legacy token: the only one that can be chosen beforehand."""


def new_account() -> Account:
    """Return the demo's login with a token that nobody can guess."""
    return Account(EMAIL, PASSWORD, secrets.token_hex(20))


def find_label_studio(root: Path) -> Path:
    """Return the label-studio command: LABEL_STUDIO_BIN, else that of `.venv-label-studio` in the repository."""
    chosen = os.environ.get("LABEL_STUDIO_BIN")
    path = Path(chosen) if chosen else root / ".venv-label-studio" / "bin" / "label-studio"
    if path.exists():
        return path
    if chosen:
        raise LocalError(f"LABEL_STUDIO_BIN is {chosen}, which doesn't exist. Leave it out to use the project's own.")
    raise LocalError(f"Label Studio isn't installed ({path} is missing). Run `make setup`.")


def program(label_studio: Path, folder: Path, port: int, account: Account) -> Program:
    """Describe a Label Studio that keeps its database and uploads in `folder` and can talk to a local backend."""
    folder.mkdir(parents=True, exist_ok=True)
    env = {name: os.environ[name] for name in INHERITED if name in os.environ}
    env |= {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "LABEL_STUDIO_USERNAME": account.email,
        "LABEL_STUDIO_PASSWORD": account.password,
        # Both act only when the first start creates the organization.
        "LABEL_STUDIO_USER_TOKEN": account.token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS": "false",
        "LABEL_STUDIO_USER_ADDITIONAL_BANNED_SUBNETS": BANNED_SUBNETS,
        # Nothing is sent to anybody.
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }
    command = (str(label_studio), "start", "--no-browser", "--internal-host", HOST, "--port", str(port))
    return Program("label-studio", command, env, folder)


def url(port: int) -> str:
    """Return the address of the Label Studio on this port."""
    return f"http://{HOST}:{port}"


def answers(url: str, auth: tuple[str, str] | None = None) -> bool:
    """Tell whether a Label Studio, or a backend (with its user and password), answers at its /health."""
    login = HTTPBasicAuth(*(part.encode() for part in auth)) if auth else None
    try:
        return requests.get(f"{url}/health", auth=login, timeout=2).status_code == 200
    except requests.RequestException:
        return False
