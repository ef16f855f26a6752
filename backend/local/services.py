"""The backend's own processes: the web service, its workers and the courier."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from backend.local.processes import Program

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""

WORKER_GRACE = 20.0
"""Seconds for a worker to finish the image that it is at."""


def environment(redis_url: str, studio_url: str = "", api_key: str = "") -> dict[str, str]:
    """Return the environment of the backend's processes: this one's, with the addresses of this run."""
    env = {**os.environ, "REDIS_URL": redis_url, "PYTHONUNBUFFERED": "1"}
    env.setdefault("CAR_PRESET", "demo")
    elsewhere = ["REDIS_PASSWORD", "REDIS_PASSWORD_FILE", "REDIS_URL_FILE"]
    if studio_url:
        env |= {"LABEL_STUDIO_URL": studio_url, "LABEL_STUDIO_API_KEY": api_key}
        elsewhere.append("LABEL_STUDIO_API_KEY_FILE")
    return {name: value for name, value in env.items() if name not in elsewhere}


def programs(env: Mapping[str, str], port: int, workers: int) -> list[Program]:
    """Describe the web service on `port`, the courier and so many workers: one per GPU, and more share them."""
    threads = str(max(1, (os.cpu_count() or 1) // max(workers, 1)))
    worker_env = {"OMP_NUM_THREADS": threads, **env}
    names = ["worker"] if workers == 1 else [f"worker-{number}" for number in range(1, workers + 1)]
    cards = gpus(env)
    env_of = {
        name: {**worker_env, "CUDA_VISIBLE_DEVICES": cards[number % len(cards)]} if cards else worker_env
        for number, name in enumerate(names)
    }
    return [
        backend_program("backend", ("serve", "--port", str(port)), env),
        backend_program("courier", ("courier",), env),
        *(backend_program(name, ("worker",), env_of[name], WORKER_GRACE) for name in names),
    ]


def gpus(env: Mapping[str, str], driver: Path = Path("/proc/driver/nvidia/gpus")) -> list[str]:
    """The GPUs among which workers are dealt out: those of CUDA_VISIBLE_DEVICES, else all that the driver shows.

    None when CAR_DEVICE names one: then that is where all of them work.
    """
    if env.get("CAR_DEVICE"):
        return []
    if "CUDA_VISIBLE_DEVICES" in env:
        return [card.strip() for card in env["CUDA_VISIBLE_DEVICES"].split(",") if card.strip()]
    return [str(number) for number, _ in enumerate(driver.glob("*"))]


def backend_program(name: str, arguments: tuple[str, ...], env: Mapping[str, str], grace: float = 10.0) -> Program:
    """Describe one command of `python -m backend`."""
    return Program(name, (sys.executable, "-m", "backend", *arguments), env, ROOT, grace)
