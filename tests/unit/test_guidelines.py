"""Guidelines of a run: read from a file, checked, and rendered as HTML that can do no harm."""

from __future__ import annotations

import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from labelloop.domain.guidelines import guidelines_fault
from labelloop.domain.limits import GUIDELINES_BYTES_MAX
from labelloop.errors import InvalidInput, NotFound
from labelloop_cli.run_spec.guidelines import read_guidelines
from labelloop_cli.run_spec.request import start_request

from oracle_svc.domain.guidelines_html import guidelines_html

TAGS = {"h3", "h4", "h5", "h6", "p", "br", "ul", "ol", "li", "pre", "code", "strong", "em", "a", "hr", "blockquote"}


class Tags(HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    tags.close()
    return tags


MARKDOWN = """# Cats and *dogs*

Label the animal **in front**.
If unsure, skip; see [examples](https://example.org/a?b=1&c=2).

- `cat`: all cats
- dog

3. third
4. fourth

> quoted

```text
<b>code</b>
```
---
![picture](https://example.org/p.png)
"""


def test_markdown_is_rendered() -> None:
    html = guidelines_html(MARKDOWN)
    assert "<h3>Cats and <em>dogs</em></h3>" in html
    assert "<p>Label the animal <strong>in front</strong>.<br>If unsure, skip; see <a href=" in html
    assert 'href="https://example.org/a?b=1&amp;c=2" target="_blank" rel="noopener noreferrer">examples</a>' in html
    assert "<ul><li><code>cat</code>: all cats</li><li>dog</li></ul>" in html
    assert '<ol start="3"><li>third</li><li>fourth</li></ol>' in html
    assert "<blockquote>quoted</blockquote>" in html
    assert "<pre><code>&lt;b&gt;code&lt;/b&gt;</code></pre>" in html
    assert "<hr>" in html
    assert ">picture</a>" in html
    assert "<img" not in html


HOSTILE = [
    "<script>alert(1)</script>",
    "# <img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    '[x](https://a.example/"onmouseover="alert(1))',
    "[<b>x</b>](https://a.example)",
    "`</code><script>`",
    "```\n</code></pre><script>alert(1)</script>",
    "```<script>\nx",
    "**<i>**",
    "1. <a href='javascript:x'>",
    "> <svg/onload=alert(1)>",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_is_shown_as_text(text: str) -> None:
    harmless(guidelines_html(text))


PARTS = [*"<>&\"'`*#-[]()!\n 1.>a:/", "https://", "javascript:", "```", "\n```"]


@given(text=st.lists(st.sampled_from(PARTS)).map("".join))
@example(text="[a](https://b)[c](https://d'>)")
def test_any_text_gives_known_tags_and_safe_links_alone(text: str) -> None:
    harmless(guidelines_html(text))


def harmless(html: str) -> None:
    for tag, attributes in parsed(html).tags:
        assert tag in TAGS
        assert attributes.keys() <= ({"href", "target", "rel"} if tag == "a" else {"start"} if tag == "ol" else set())
        if tag == "a":
            assert str(attributes["href"]).startswith(("https://", "http://"))


def test_plain_text_keeps_its_lines() -> None:
    assert guidelines_html("a < b\nsnake_case_name\n\nc") == "<p>a &lt; b<br>snake_case_name</p>\n\n<p>c</p>"


@pytest.mark.parametrize("part", ["*", "**a", "[", "[a](", "[a](https://", "`", "> ", "#", "![", "*a", "- ", "\n```"])
def test_the_longest_guidelines_are_rendered_fast(part: str) -> None:
    text = (part * GUIDELINES_BYTES_MAX)[:GUIDELINES_BYTES_MAX]
    began = time.process_time()
    guidelines_html(text)
    assert time.process_time() - began < 2


def test_a_file_is_read_with_line_breaks_of_one_kind(tmp_path: Path) -> None:
    path = tmp_path / "guide.md"
    path.write_bytes("\ufeff# Katzen\r\nund Hünde\r".encode())
    assert read_guidelines(path) == "# Katzen\nund Hünde"
    spec = start_request(
        {"dataset": {"name": "mnist"}, "queue": {"guidelines": path}}, run_id="r", continues=""
    ).request.spec
    assert spec.queue.guidelines == "# Katzen\nund Hünde"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b" \n ", "is empty"),
        (b"\xff\xfe\x00a", "UTF-8"),
        (b"a\x00b", "control character"),
        (b"a" * (GUIDELINES_BYTES_MAX + 1), "bytes: shorten"),
        (("ü" * GUIDELINES_BYTES_MAX).encode(), "bytes: shorten"),
    ],
)
def test_files_that_are_no_guidelines_are_refused(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "guide.md"
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=said):
        read_guidelines(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_guidelines(tmp_path / "none.md")
    with pytest.raises(InvalidInput):
        read_guidelines(tmp_path)


def test_guidelines_have_a_largest_size() -> None:
    assert guidelines_fault("a" * GUIDELINES_BYTES_MAX) == ""
    assert "shorten" in guidelines_fault("ü" * (GUIDELINES_BYTES_MAX // 2 + 1))
