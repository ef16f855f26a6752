"""Environment variables -> settings. Every process of the backend reads the same ones."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote, urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from model.presets import PRESETS, Preset

SECRETS = ("LABEL_STUDIO_API_KEY", "BASIC_AUTH_PASS", "REDIS_PASSWORD", "REDIS_URL")
"""Variables whose values are secrets, or hold one; each may also be given as the path of a file, in NAME_FILE."""


class SettingsError(Exception):
    """A setting has a value that cannot work; the message names the variable and what it takes."""


class Settings(BaseSettings):
    """All settings, each read from the environment variable of the same name in capitals.

    Names that the Label Studio ecosystem already has (`LABEL_STUDIO_URL`, `LABEL_STUDIO_API_KEY`, `REDIS_URL`,
    `BASIC_AUTH_USER`, `BASIC_AUTH_PASS`) are kept; our own begin with `CAR_`.
    """

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    label_studio_url: str = "http://localhost:8080"
    label_studio_api_key: SecretStr = SecretStr("")
    redis_password: SecretStr = SecretStr("")
    """For a `redis_url` that has no password of its own."""
    redis_url: str = Field("redis://localhost:6379/0", validate_default=True)
    basic_auth_user: str = ""
    basic_auth_pass: SecretStr = SecretStr("")

    car_studio_link: str = ""
    """Label Studio's address as people's browsers reach it, for links on our pages; empty: `label_studio_url`."""
    car_open: bool = False
    """Listen on other than loopback addresses although no password is set (`serve --open`)."""
    car_log: Literal["text", "json"] = "text"
    """How every process writes its log: for people, or one JSON object per line."""

    car_preset: str = "demo"
    """The service preset of projects that name none: `demo` (shipped weights) or `photos` (OpenAI CLIP)."""
    car_weights: str = ""
    """A folder with weights for both towers, instead of the preset's own."""
    car_memory: str = ""
    """The folder with memories of corrected regions that labeling configs name (`car_memory`); empty: a usual one."""
    car_device: str = ""
    """`cpu`, `cuda`, `cuda:1`; empty picks a GPU if there is one."""
    car_sam: Literal["", "vit_tiny", "vit_b", "vit_l", "vit_h"] = ""
    """The HQ-SAM that answers clicks and boxes; empty: label and colours do, which needs no weights."""
    car_sam_weights: str = "published"
    """Its weights: `published` (in CAR_MODELS, else downloaded), `random`, or a file."""

    car_wait: float = Field(5.0, ge=0, le=60)
    """Seconds that a request for a single task may wait for its mask."""
    car_interactive_wait: float = Field(20.0, ge=0, le=90)
    """Seconds that an annotator's text, click or box may wait for its mask; Label Studio itself waits 100."""
    car_threads: int = Field(32, ge=2, le=256)
    """Threads of the web process; at most half of them wait."""
    car_queue_limit: int = Field(100_000, ge=1)
    """Jobs that may be open at once; beyond it new tasks are answered "not ready"."""
    car_max_body_bytes: int = Field(256 * 2**20, ge=1024)
    """How large a request may be: Label Studio sends thousands of tasks in one, with their annotations."""
    car_answer_limit: int = Field(100, ge=1)
    """Finished predictions that one answer may carry; the rest is pushed."""
    car_job_timeout: int = Field(1800, ge=10)
    """Seconds after which one image is given up."""
    car_retries: int = Field(3, ge=0, le=20)
    """How often a job is run again after what may pass, and how often a failed task may be asked for anew."""
    car_retry_seconds: Annotated[tuple[int, ...], NoDecode] = (10, 60, 300)
    """Pauses before those runs; the last one repeats."""
    car_result_days: float = Field(7.0, gt=0)
    """How long a finished prediction is kept after its delivery."""
    car_correction_days: float = Field(180.0, gt=0)
    """How long scores and corrections of a project are kept after its last prediction or correction."""
    car_correction_limit: int = Field(20_000, ge=1)
    """Corrected tasks that are kept of each project; the oldest go first."""
    car_verify_seconds: float = Field(30.0, gt=0)
    """How long after an answer the courier looks whether Label Studio really stored it."""

    car_converge_seconds: float = Field(300.0, ge=0)
    """How often the courier compares connected projects with what they should hold; 0: never."""

    car_task_images: int = Field(20, ge=1)
    """Images that one task may have; one with more fails with a clear reason."""
    car_max_bytes: int = Field(128 * 2**20, ge=1)
    car_max_pixels: int = Field(120_000_000, ge=1)
    car_image_timeout: float = Field(30.0, gt=0)
    car_allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Private hosts or networks (CIDR) that task images may come from, comma-separated."""
    car_image_cache: str = ""
    """A folder in which the workers of this machine keep images that they have fetched; empty keeps none."""
    car_image_cache_bytes: int = Field(4 * 2**30, ge=0)
    """How much that folder may hold; what was used longest ago goes first."""

    @field_validator("car_allowed_hosts", "car_retry_seconds", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("car_preset")
    @classmethod
    def _known_preset(cls, value: str) -> str:
        if value not in PRESETS:
            raise ValueError(f"there is no preset {value!r}; there are: {', '.join(PRESETS)}")
        return value

    @field_validator("redis_url")
    @classmethod
    def _with_password(cls, value: str, info: ValidationInfo) -> str:
        password = info.data["redis_password"].get_secret_value() if "redis_password" in info.data else ""
        parts = urlsplit(value)
        if not password or parts.password or not parts.hostname:
            return value
        place = f"{parts.username or ''}:{quote(password, safe='')}@{parts.netloc.rpartition('@')[2]}"
        return parts._replace(netloc=place).geturl()

    @field_validator("label_studio_url", "car_studio_link")
    @classmethod
    def _http_url(cls, value: str, info: ValidationInfo) -> str:
        if not value and info.field_name == "car_studio_link":
            return value
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must look like http://label-studio:8080")
        return value.rstrip("/")

    @property
    def memory_folder(self) -> Path:
        """Where memories of corrected regions lie: CAR_MEMORY, else `~/.cache/clip-as-rnn/memory`."""
        return Path(self.car_memory) if self.car_memory else Path.home() / ".cache" / "clip-as-rnn" / "memory"

    def located(self, preset: Preset) -> Preset:
        """A preset whose memory a labeling config names, with the file's place."""
        name, mark, digest = preset.memory.partition("#")
        memory = f"{self.memory_folder / name}.safetensors{mark}{digest}" if name else ""
        return replace(preset, memory=memory)

    @property
    def auth(self) -> tuple[str, str] | None:
        """User and password that every route asks for, or None when the backend is open."""
        if not (self.basic_auth_user or self.basic_auth_pass.get_secret_value()):
            return None
        return self.basic_auth_user, self.basic_auth_pass.get_secret_value()


def secret_files(env: Mapping[str, str]) -> dict[str, str]:
    """Secret -> the content of the file that NAME_FILE names, without the line break at its end.

    Raises:
        SettingsError: the file cannot be read, or the secret is given in both ways.
    """
    found = {}
    for name in SECRETS:
        path = env.get(f"{name}_FILE", "")
        if path and env.get(name):
            raise _wrong(f"{name}_FILE: {name} is set, too. Unset one of them.")
        if path:
            try:
                found[name] = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise _wrong(f"{name}_FILE: cannot be read by this process's user: {error}") from None
    return found


def load_settings() -> Settings:
    """Read the environment, and the files that it names for secrets.

    Raises:
        SettingsError: names each variable with a bad value and why.
    """
    files = {name.lower(): secret for name, secret in secret_files(os.environ).items()}
    try:
        return Settings(**files)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors(include_input=False)]
        raise _wrong(*lines) from None


def _wrong(*lines: str) -> SettingsError:
    return SettingsError("\n  ".join(["Cannot start with these settings:", *lines]))
