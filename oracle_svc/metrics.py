"""What the oracle shows beside what every service does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from labelloop.events.v1.events_pb2 import LabelSource
from labelloop.wire.metrics import OURS, gauge, held_up
from labelloop.wire.run_book import RunBook
from prometheus_client import Counter
from prometheus_client.core import Metric

from oracle_svc.dead_letters import DeadLetters
from oracle_svc.desk import Desk
from oracle_svc.queues.queue import tool_of

LABELS_PAID = Counter(
    "labelloop_labels_paid_total", "Labels that were asked for and that this process recorded.", registry=OURS
)
_SOURCES = {LabelSource.LABEL_SOURCE_DATASET: "dataset", LabelSource.LABEL_SOURCE_QUEUE: "queue"}


def dead_letter_gauges(dead_letters: DeadLetters, tools: Sequence[str]) -> Iterator[Metric]:
    """What waits to be replayed, by the tool that brought it: those that the oracle is connected to, and others that
    letters are of."""
    waiting = dict.fromkeys(tools, 0.0)
    for letter in dead_letters.letters.values():
        tool = tool_of(letter.source)
        waiting[tool] = waiting.get(tool, 0.0) + 1
    text = "Results that a tool brought and that could not be taken: they wait to be replayed."
    yield gauge("labelloop_dead_letters", text, "tool", waiting)


def queue_gauges(book: RunBook[Desk]) -> Iterator[Metric]:
    """What waits for a label, and for how long, by who is to give it."""
    depth, age_s = dict.fromkeys(_SOURCES.values(), 0.0), dict.fromkeys(_SOURCES.values(), 0.0)
    now = datetime.now(UTC)
    for desk in list(book.runs.values()):
        if desk.waits_since:
            source = _SOURCES[desk.spec.label_source]
            depth[source] += len(desk.open)
            age_s[source] = max(age_s[source], (now - desk.waits_since).total_seconds())
    yield gauge("labelloop_open_samples", "Samples that wait for a label, by who is to give it.", "source", depth)
    text = "For how long the oldest batch that is not whole has been waiting; 0 where none is."
    yield gauge("labelloop_oldest_request_age_seconds", text, "source", age_s)
    refused = [desk.run_id for desk in list(book.runs.values()) if desk.refusal and not desk.over]
    yield held_up([*book.held_up(), *refused])
