"""The code blocks of the documentation, for tests that run what it shows. Changes none of them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def documents() -> list[Path]:
    """Return every page of the documentation that is part of the project."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    return sorted(pages)


def blocks(path: Path, language: str = "python") -> list[str]:
    """Return the code blocks of a page in one language, in order."""
    return [code for name, code in _BLOCK.findall(path.read_text()) if name == language]


def snippet(page: str, mark: str, *, after: str = "") -> str:
    """Return the first Python block of a page (below the line `after`) that contains `mark`."""
    text = (ROOT / page).read_text()
    text = text[text.index(f"\n{after}\n") if after else 0 :]
    found: list[str] = [code for name, code in _BLOCK.findall(text) if name == "python" and mark in code]
    return found[0]
