"""Links between the pages lead to a file that is there, and to a heading that it has."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(text))
    return {heading.strip().replace(" ", "-") for heading in plain}


def test_every_link_between_pages_leads_somewhere(root: Path) -> None:
    pages = [*root.glob("*.md"), *(root / "docs").glob("**/*.md"), *(root / "clients").glob("*/README.md")]
    lost = []
    for page in pages:
        for path, anchor in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
            target = (page.parent / path).resolve() if path else page
            is_there = target.exists() and (not anchor or target.suffix != ".md" or anchor in anchors(target))
            if not is_there:
                lost.append(f"{page.relative_to(root)}: {path}#{anchor}")
    assert lost == []
    assert len(pages) > 20
