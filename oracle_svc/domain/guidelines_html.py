"""Render the guidelines of a run, Markdown or plain text, as HTML that can do no harm. Pure functions.

What is not known here is shown as text. There are headings, paragraphs with their line breaks, lists, quotes, rules,
blocks of code, **bold**, *emphasised* and `code` words, and links to http and https addresses. Pictures become links:
the labelling page loads nothing from other sites. Each text is escaped before a tag is put around it, and the time is
linear in the length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from html import escape
from itertools import groupby

_FENCE = "```"
_HEADING_TOP = 2  # pages have headings of their own above
_INLINE = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\*\*(?P<bold>[^*]+)\*\*"
    r"|\*(?P<emphasis>[^*\s][^*]*)\*"
    r"|!?\[(?P<text>[^\[\]]+)\]\((?P<url>https?://[^\s()<>\"']+)\)"
)
_KINDS = (
    ("heading", re.compile(r"(#{1,6})\s+(.+)")),
    ("rule", re.compile(r"(?:-{3,}|\*{3,}|_{3,})\s*$()()")),
    ("ul", re.compile(r"\s{0,8}([-*+])\s+(.+)")),
    ("ol", re.compile(r"\s{0,8}([0-9]{1,9})[.)]\s+(.+)")),
    ("quote", re.compile(r"(>)\s?(.*)")),
)


@lru_cache(maxsize=32)
def guidelines_html(text: str) -> str:
    """Return the guidelines as HTML, for any place that may hold blocks."""
    parts = text.split(f"\n{_FENCE}") if not text.startswith(_FENCE) else ["", *text[3:].split(f"\n{_FENCE}")]
    return "\n".join(_code(part) if i % 2 else _blocks(part) for i, part in enumerate(parts) if part.strip())


def _code(part: str) -> str:
    _language, _, code = part.partition("\n")
    return f"<pre><code>{escape(code)}</code></pre>"


def _blocks(part: str) -> str:
    return "\n".join(_block(kind, list(lines)) for (kind, _), lines in groupby(_lines(part), key=_group))


def _lines(part: str) -> Iterator[tuple[str, int, str, str]]:
    """Yield each line's kind, its number, its mark and its text."""
    for number, line in enumerate(part.splitlines()):
        if not line.strip():
            yield "blank", 0, "", ""
            continue
        for kind, pattern in _KINDS:
            if found := pattern.match(line):
                yield kind, number, found[1], found[2]
                break
        else:
            yield "text", 0, "", line.strip()


def _group(line: tuple[str, int, str, str]) -> tuple[str, int]:
    kind, number, _, _ = line
    return kind, number if kind in ("heading", "rule") else 0


def _block(kind: str, lines: list[tuple[str, int, str, str]]) -> str:
    texts = [_inline(text) for _, _, _, text in lines]
    match kind:
        case "blank":
            return ""
        case "rule":
            return "<hr>"
        case "heading":
            level = min(6, _HEADING_TOP + len(lines[0][2]))
            return f"<h{level}>{texts[0]}</h{level}>"
        case "ul":
            return f"<ul>{_items(texts)}</ul>"
        case "ol":
            return f'<ol start="{int(lines[0][2])}">{_items(texts)}</ol>'
        case "quote":
            return f"<blockquote>{'<br>'.join(texts)}</blockquote>"
        case _:
            return f"<p>{'<br>'.join(texts)}</p>"


def _items(texts: list[str]) -> str:
    return "".join(f"<li>{text}</li>" for text in texts)


def _inline(text: str) -> str:
    out, end = [], 0
    for found in _INLINE.finditer(text):
        out += [escape(text[end : found.start()]), _tagged(found)]
        end = found.end()
    return "".join([*out, escape(text[end:])])


def _tagged(found: re.Match[str]) -> str:
    if found["url"]:
        return f'<a href="{escape(found["url"])}" target="_blank" rel="noopener noreferrer">{escape(found["text"])}</a>'
    for name, tag in (("code", "code"), ("bold", "strong"), ("emphasis", "em")):
        if found[name]:
            return f"<{tag}>{escape(found[name])}</{tag}>"
    return escape(found[0])
