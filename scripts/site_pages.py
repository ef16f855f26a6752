"""What `mkdocs` needs beyond docs/: the pages that lie elsewhere in the repository, and links that hold in both places.

On GitHub a page of docs/ links to `../SECURITY.md`, README to `docs/bulk.md`. On the site all pages lie side by side.
"""

import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "model/demo/README.md": "demo-model.md",
}
"""A file beyond docs/ -> the page that it becomes."""
SOURCES = {page: name for name, page in PAGES.items()}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]*)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie elsewhere."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Rewrite a page's links as the site needs them."""
    source = SOURCES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return rewritten(markdown, str(PurePosixPath(source).parent))


def rewritten(markdown: str, folder: str) -> str:
    """Rewrite the links of a text that lies in `folder`; what is no page (LICENSE, code) becomes plain text."""

    def link(found: re.Match[str]) -> str:
        bang, text, target, anchor = found[1], found[2], found[3], found[4] or ""
        text = LINK.sub(link, text)
        if not target or re.match(r"[a-z]+:", target):
            return f"{bang}[{text}]({target}{anchor})"
        place = _normal(PurePosixPath(folder) / target)
        if place in PAGES:
            return f"{bang}[{text}]({PAGES[place]}{anchor})"
        if place.startswith("docs/"):
            return f"{bang}[{text}]({place.removeprefix('docs/')}{anchor})"
        return text

    return LINK.sub(link, markdown)


def _normal(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
