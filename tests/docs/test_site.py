"""The documentation's site builds without a warning, holds together, and says what the code says."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import open_clip
import pytest

from backend import store
from backend.doctor.here import ELSEWHERE
from backend.settings import SECRETS, Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. `--strict` makes errors of warnings: dead links and anchors, pages without a place."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


class References(HTMLParser):
    """What a page loads, and where its links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a" and given.get("href"):
            self.links.append(given["href"] or "")
        elif tag in ("script", "img", "iframe") and given.get("src"):
            self.loaded.append(given["src"] or "")
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(given.get("href") or "")


def test_it_loads_nothing_from_elsewhere_and_its_links_are_links(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for path in pages:
        found = References()
        found.feed(path.read_text())
        for target in found.loaded:
            assert not urlsplit(target).netloc, f"{path.relative_to(site)} loads {target}"
            assert (path.parent / target.split("?")[0]).exists() or target.startswith("/"), f"{path}: {target}"
        for link in found.links:
            parts = urlsplit(link)
            assert parts.scheme in ("", "http", "https"), link
            assert bool(parts.scheme) == bool(parts.netloc), link


def test_every_page_has_a_title_and_no_markdown_is_left(site: Path) -> None:
    for path in site.rglob("index.html"):
        text = re.sub(r"(?s)<(script|style|pre|code)\b.*?</\1>", "", path.read_text())
        assert "<h1" in text, path
        body = re.sub(r"<[^>]+>", "", text)
        assert not re.search(r"^\s*(\* |\|---|```)", body, re.MULTILINE), (
            f"a list, table or block of {path} is not drawn"
        )


def site_pages() -> object:
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "scripts" / "site_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("folder", "text", "expected"),
    [
        (".", "[a](docs/bulk.md#try)", "[a](bulk.md#try)"),
        (".", "![a](docs/flow.svg)", "![a](flow.svg)"),
        (".", "[rules](SECURITY.md)", "[rules](security.md)"),
        (".", "[Apache-2.0](LICENSE)", "Apache-2.0"),
        (".", "[a](https://x.org/a#b) [b](#c)", "[a](https://x.org/a#b) [b](#c)"),
        ("docs", "[a](../SECURITY.md#what) [b](bulk.md)", "[a](security.md#what) [b](bulk.md)"),
        ("docs", "[the `code`](../model/car.py)", "the `code`"),
        ("model/demo", "[a](../../docs/method.md)", "[a](method.md)"),
    ],
)
def test_links_hold_on_the_site_too(folder: str, text: str, expected: str) -> None:
    assert site_pages().rewritten(text, folder) == expected  # type: ignore[attr-defined]


def test_links_hold_in_the_repository() -> None:
    """On GitHub: every relative link leads to a file."""
    for path in [*DOCS.glob("*.md"), *ROOT.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", re.sub(r"(?s)```.*?```|`[^`]*`", "", path.read_text())):
            if not urlsplit(target).scheme:
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_every_setting_is_explained() -> None:
    text = (DOCS / "settings.md").read_text()
    names = {*(name.upper() for name in Settings.model_fields), *ELSEWHERE, *(f"{name}_FILE" for name in SECRETS)}
    names -= {"CAR_SCREENSHOTS"}  # of our own tests
    assert not {name for name in names if f"`{name}`" not in text}
    assert not set(re.findall(r"`(CAR_[A-Z_]+)`", text)) - names


def test_every_key_in_redis_is_explained() -> None:
    text = (DOCS / "architecture.md").read_text()
    source = Path(store.__file__).read_text()
    keys = re.findall(r'"(car:[a-z:-]+?):?(?:\{[^"]*)?"', source)
    assert len(keys) > 20
    assert not [key for key in keys if f"`{key}" not in text]


@pytest.mark.parametrize("model", ["ViT-B-16-quickgelu", "ViT-L-14-quickgelu"])
def test_weights_are_where_the_page_says(model: str) -> None:
    hub = open_clip.get_pretrained_cfg(model, "openai")["hf_hub"].strip("/")
    row = f"| `{model}.safetensors` | `open_clip_model.safetensors` of `huggingface.co/{hub}` |"
    assert row in (DOCS / "weights.md").read_text()
