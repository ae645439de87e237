"""The checks that take too long for each change, with their commands. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Part:
    """``command`` runs in the repository's root with ``environment`` added; it passes if it exits with 0."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


_WITH_EXAMPLES = "tests/unit tests/chaos/test_simulation.py tests/e2e/test_bad_events.py"
# A million messages, files and texts, in hours.
_DAMAGED = (
    "tests/e2e/test_bad_input.py tests/e2e/test_bad_http.py tests/e2e/test_bad_events.py "
    "tests/unit/test_damaged_pools.py tests/unit/test_damaged_texts.py"
)
PARTS = (
    Part("chaos", ("make", "chaos")),
    Part("examples", ("make", "test", f"ARGS={_WITH_EXAMPLES}"), {"LABELLOOP_EXAMPLES": "10"}),
    Part("damaged-input", ("make", "test", f"ARGS=--timeout=36000 {_DAMAGED}"), {"LABELLOOP_EXAMPLES": "100"}),
    Part("newest-broker", ("make", "test", "ARGS=tests/integration tests/e2e"), {"LABELLOOP_NEWEST_BROKER": "1"}),
    Part("label-studio", ("make", "test-labelstudio")),
    Part("queues", ("make", "test-queues")),
    Part("images", ("make", "test-docker"), {"LABELLOOP_ROLLS": "100"}),
    Part("study", ("make", "study", "QUICK=1")),
    Part("soak", ("make", "soak", "SECONDS=1800")),
)


def chosen(words: str) -> list[Part]:
    """Return the parts whose name contains one of ``words``, or all without words. Raise ValueError for none."""
    parts = [part for part in PARTS if not words or any(word in part.name for word in words.split())]
    if not parts:
        raise ValueError(f"no part is named like {words!r}: {', '.join(part.name for part in PARTS)}")
    return parts
