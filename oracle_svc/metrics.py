"""Export the oracle's own Prometheus metrics, beside those of every service."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from labelloop.eventlog.projections import RunProjections
from labelloop.events.v1.events_pb2 import LabelSource
from labelloop.observability.metrics import OURS, gauge, held_up, held_up_seconds
from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily, Metric

from oracle_svc.dead_letters import DeadLetters
from oracle_svc.domain.backlog import faults_of_tool
from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.domain.tool_states import DIRECTIONS, SERVICE, ToolStates
from oracle_svc.integrations.base import tool_of

LABELS_PAID = Counter(
    "labelloop_labels_paid_total", "Labels that were asked for and that this process recorded.", registry=OURS
)
_SOURCES = {LabelSource.LABEL_SOURCE_DATASET: "dataset", LabelSource.LABEL_SOURCE_QUEUE: "queue"}


def dead_letter_gauges(dead_letters: DeadLetters, tools: Sequence[str]) -> Iterator[Metric]:
    """Yield the number of dead letters that wait to be replayed, by tool.

    Includes the connected ``tools``, with 0 if they have none, and any other tool that letters came from.
    """
    waiting = dict.fromkeys(tools, 0.0)
    for letter in dead_letters.letters.values():
        tool = tool_of(letter.source)
        waiting[tool] = waiting.get(tool, 0.0) + 1
    text = "Results that a tool brought and that could not be taken: they wait to be replayed."
    yield gauge("labelloop_dead_letters", text, "tool", waiting)


def tool_gauges(states: ToolStates, tools: Sequence[str]) -> Iterator[Metric]:
    """Yield whether each of the connected ``tools`` is away, by direction."""
    text = "1 while requests, results or retractions do not pass between this oracle and a tool, else 0."
    family = GaugeMetricFamily("labelloop_tool_away", text, labels=["tool", "direction"])
    away = {(each.tool, each.direction) for each in states.away()}
    for tool in tools:
        for direction in DIRECTIONS:
            family.add_metric([tool, direction], float((tool, direction) in away))
    yield family


def queue_gauges(projections: RunProjections[LabelingState]) -> Iterator[Metric]:
    """Yield the open samples and the longest wait, by label source, and the runs that are held up."""
    depth, age_s = dict.fromkeys(_SOURCES.values(), 0.0), dict.fromkeys(_SOURCES.values(), 0.0)
    now = datetime.now(UTC)
    for labeling in projections.runs.going():
        if labeling.waits_since:
            source = _SOURCES[labeling.spec.label_source]
            depth[source] += len(labeling.open)
            age_s[source] = max(age_s[source], (now - labeling.waits_since).total_seconds())
    yield gauge("labelloop_open_samples", "Samples that wait for a label, by who is to give it.", "source", depth)
    text = "For how long the oldest batch that is not whole has been waiting; 0 where none is."
    yield gauge("labelloop_oldest_request_age_seconds", text, "source", age_s)
    faults = [each for labeling in projections.runs.going() for each in faults_of_tool(labeling)]
    yield held_up([*projections.held_up(), *(each.run_id for each in faults)])
    yield held_up_seconds([*projections.own_hold_ups(SERVICE), *faults])
