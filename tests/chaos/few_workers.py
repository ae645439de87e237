"""A simulated tool whose few workers take whatever request comes next, among them two of one sample.

The oracle's real code decides what is asked, takes results and shortens leases; leases and the clock are in memory.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from random import Random

from labelloop.domain.ids import LeaseKey, RequestId
from labelloop.errors import LabelloopError
from labelloop.events.v1.events_pb2 import (
    Event,
    GoldSample,
    LabelSource,
    LabelsRequested,
    PoolPublished,
    QueueSpec,
    RunSpec,
    RunStarted,
)
from labelloop.oracle.v1.oracle_pb2 import LabelResult

from oracle_svc.domain import resolution
from oracle_svc.domain.answer_history import posteriors_at
from oracle_svc.domain.labeling_state import LabelingState, Resolve, next_action
from oracle_svc.domain.open_requests import for_tool
from oracle_svc.domain.result_validation import admit
from oracle_svc.integrations.request_retries import RequestRetries
from oracle_svc.lease_table import Lease, LeaseTable
from oracle_svc.request_dispenser import tool_holder
from tests.chaos.simulation import Violation
from tests.unit.test_labeling_state import NOW, OneRun

RESEND_S = 86_400.0
_TURNS_MAX = 5_000
_HOLDER = tool_holder("tool")
_GOLD = 9


class Leases(LeaseTable):
    """Leases without a broker, by the clock ``time_s``."""

    def __init__(self) -> None:
        self.time_s = 1_000.0
        super().__init__(lambda: self.time_s)
        self._sequence = 0

    def write(self, key: LeaseKey, expires_at: float, pushes: int) -> None:
        self._sequence += 1
        self.put(key, Lease(_HOLDER, expires_at, pushes, sequence=self._sequence))

    async def shorten(self, key: LeaseKey, holder: str, to_s: float) -> None:
        lease = self.lease(key)
        if lease.holder == holder and lease.expires_at > self.time_s + to_s:
            self.write(key, self.time_s + to_s, lease.pushes + 1)


class LeasesThatLast(Leases):
    """Mutant: a refused result leaves its request with the tool for as long as any other."""

    async def shorten(self, key: LeaseKey, holder: str, to_s: float) -> None: ...


@dataclass
class FewWorkers:
    """One run, its tool, and its workers. ``leases`` may be faulty."""

    seed: int
    leases: Leases

    def run(self) -> None:
        """Let workers answer until all samples are settled. Raises Violation if a slot waits, or vanishes."""
        rng = Random(self.seed)
        annotators = rng.randint(2, 3)
        workers = [f"w{each}" for each in range(rng.randint(annotators, annotators + 1))]
        self.labeling = _begun(rng.randint(1, 6), annotators)
        self._retries = RequestRetries("tool", OneRun(self.labeling), self.leases)  # type: ignore[arg-type]
        waiting: list[str] = []
        refused: dict[str, list[str]] = {}
        begin_s = self.leases.time_s
        for _ in range(_TURNS_MAX):
            if not self.labeling.open:
                break
            waiting += self._push()
            if waiting:
                request_id = waiting.pop(rng.randrange(len(waiting)))
                before = refused.setdefault(request_id, [])
                worker = rng.choice([each for each in workers if each not in before] or workers)
                if not self._answer(worker, request_id, rng):
                    before.append(worker)  # the next attempt reaches somebody else
            else:
                self.leases.time_s += self.leases.ends_in_s(_HOLDER) + 1e-3
        if self.labeling.open:
            raise Violation(f"samples {list(self.labeling.open)} are never settled")
        if self.leases.time_s - begin_s >= RESEND_S:
            raise Violation("a slot waited as long as one that nobody answers")

    def _push(self) -> list[str]:
        """Lease what is asked and free, and return it."""
        asks = [ask for ask in for_tool(self.labeling, whole_samples=False) if not self.leases.holder(ask.lease)]
        for ask in asks:
            self.leases.write(ask.lease, self.leases.time_s + RESEND_S, self.leases.pushes(ask.lease))
        return [ask.request_id for ask in asks]

    def _answer(self, worker: str, request_id: str, rng: Random) -> bool:
        """Answer a request; return whether the result was taken."""
        label = 1 if rng.random() < 0.8 else rng.randrange(3)
        result = LabelResult(request_id=request_id, annotator=worker, label=label)
        try:
            event = admit(self.labeling, result, "tool", "results")
        except LabelloopError as error:
            if error.reason != "ANSWERED_ALREADY":
                raise
            self._ask_again(RequestId.parse(request_id))
            return False
        if event:
            self.labeling.apply(event, NOW)
        match next_action(self.labeling, NOW):
            case Resolve(answered):
                weighed = posteriors_at(
                    self.labeling.history,
                    answered,
                    self.labeling.gold,
                    self.labeling.annotators,
                    self.labeling.run_log.annotators,
                )
                events, disputed = resolution.settle(self.labeling, answered, weighed)
                self.labeling.disputed.update(disputed)
                for each in events:
                    self.labeling.apply(each, NOW)
                self.labeling.mark_resolved(answered)
        return True

    def _ask_again(self, request: RequestId) -> None:
        """Run the coroutine, which waits for nothing here."""
        with suppress(StopIteration):
            self._retries(request).send(None)


def _begun(sample_count: int, annotators: int) -> LabelingState:
    queue = QueueSpec(
        tool="tool",
        annotators=annotators,
        annotators_max=annotators,
        gold=[GoldSample(sample_id=_GOLD, label=1)],
        resolution_version=1,
    )
    spec = RunSpec(label_source=LabelSource.LABEL_SOURCE_QUEUE, queue=queue)
    labeling = LabelingState.begin(Event(run_id="r", run_started=RunStarted(spec=spec)), NOW)
    labeling.apply(Event(run_id="r", pool_published=PoolPublished(sample_count=100, classes=["a", "b", "c"])), NOW)
    labeling.apply(Event(run_id="r", labels_requested=LabelsRequested(sample_ids=range(sample_count))), NOW)
    return labeling
