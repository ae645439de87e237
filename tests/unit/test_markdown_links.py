"""Relative links in Markdown pages lead to files and headings that exist."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
_LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_INLINE_CODE = re.compile(r"`[^`\n]*`")
_OUTSIDE = re.compile(r"[a-z]+:")
_SKIPPED_DIRS = {"node_modules", "out"}


def pages() -> list[Path]:
    """Return the Markdown pages outside of hidden, generated and installed folders."""
    return sorted(path for path in ROOT.rglob("*.md") if _is_ours(path.relative_to(ROOT)))


def _is_ours(path: Path) -> bool:
    return not any(part.startswith(".") or part in _SKIPPED_DIRS for part in path.parts)


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text())


def targets(page: Path) -> list[str]:
    """Return the relative link targets outside code."""
    found = _LINK.findall(_INLINE_CODE.sub("code", prose(page)))
    return [target for target in found if not _OUTSIDE.match(target)]


def anchors(page: Path) -> set[str]:
    """Return GitHub's anchors of the page's headings, which must differ."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def fault(page: Path, target: str) -> str | None:
    """Return a link's fault, or None."""
    path, _, anchor = unquote(target).partition("#")
    place = (page.parent / path).resolve() if path else page
    if not place.is_relative_to(ROOT):
        return "leads out of the repository"
    if not place.exists():
        return "leads to no file"
    return "names no heading" if anchor and anchor not in anchors(place) else None


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    assert [(target, why) for target in targets(page) if (why := fault(page, target))] == []


def test_every_page_is_linked() -> None:
    linked = {(page.parent / target.partition("#")[0]).resolve() for page in pages() for target in targets(page)}
    assert {page for page in pages() if page != ROOT / "README.md"} - linked == set()
