"""The commands of deploy/README.md, as they are printed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.deploy.rendering import KUBERNETES

README = KUBERNETES.parent / "README.md"
_PART = re.compile(r"^##+ (?P<heading>[^\n]+)$|^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        heading: The heading that it is under.
        language: What the page says it is; empty for commands.
    """

    heading: str
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.heading}: {self.text.splitlines()[0]}"


def blocks(language: str = "") -> list[Block]:
    """Return the blocks of a language, by default the commands."""
    found, heading = [], ""
    for part in _PART.finditer(README.read_text()):
        heading = part["heading"] or heading
        if part["text"] is not None and part["language"] == language:
            found.append(Block(heading, language, part["text"]))
    return found


def commands(heading: str, containing: str) -> str:
    """Return the only block of commands under a heading that contains a text."""
    [found] = [each.text for each in blocks() if each.heading == heading and containing in each.text]
    return found
