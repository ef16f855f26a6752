"""Pages for people."""

from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"
