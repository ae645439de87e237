"""A fake result sink with those rules of the real one that matter to Label Studio; it remembers results.

It also is the integration's records of runs: of every run, with the classes given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from labelloop.errors import Unready
from labelloop.oracle.v1.oracle_pb2 import LabelResult, LabelVerdict

from oracle_svc.domain.annotator_names import AnnotatorNames
from oracle_svc.domain.current_answers import RequestResults
from oracle_svc.integrations.base import RecordStatus
from tests.patience import PATIENCE_S


class FakeLog:
    """``away`` makes it raise Unready. ``pushed`` are the requests that count as in the tool, by run, ``lost`` those
    to be pushed again; ``held`` and ``notices`` are what an operator would see."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes, self.away = classes, False
        self.recorded: list[LabelResult] = []
        self.refused: list[LabelResult] = []
        self.repeated = self.turned_away = 0
        self.pushed: dict[str, list[str]] = {}
        self.lost: list[str] = []
        self.held: dict[str, Sequence[LabelResult]] = {}
        self.notices: dict[str, Sequence[str]] = {}
        self._changed = asyncio.Condition()

    def note_reading(self, problem: str = "") -> None:
        self.reading_problem = problem

    async def take(self, result: LabelResult) -> RecordStatus:
        async with self._changed:
            self._changed.notify_all()
            if self.away:
                self.turned_away += 1
                raise Unready("AWAY", "the log is away: try again")
            if result.HasField("class_name") and result.class_name not in self._classes:
                self.refused.append(result)
                return RecordStatus.REFUSED
            newest = {each.annotator: each.revision for each in self.said(result.request_id)}
            if result.revision <= newest.get(result.annotator, -1):
                self.repeated += 1
                return RecordStatus.REPEATED
            self.recorded.append(result)
            return RecordStatus.RECORDED

    async def take_json(self, data: bytes) -> LabelVerdict:
        raise AssertionError("Label Studio's results are never JSON")

    def said(self, request_id: str) -> list[LabelResult]:
        """Each annotator's newest result."""
        own = [each for each in self.recorded if each.request_id == request_id]
        return list({each.annotator: each for each in own}.values())

    def classes(self) -> Mapping[str, Sequence[str]]:
        return dict.fromkeys(self.pushed, self._classes)

    def results(self, request_id: str) -> RequestResults:
        own = [each for each in self.recorded if each.request_id == request_id]
        return RequestResults(self.said(request_id), {each.source_event_id: each.annotator for each in own})

    def names(self, run_id: str) -> AnnotatorNames:
        names = AnnotatorNames()
        for each in self.recorded:
            if each.request_id.startswith(f"{run_id}/"):
                names.note(each.annotator, each.annotator_id)
        return names

    def standing_count(self, run_id: str) -> int:
        requests = {each.request_id for each in self.recorded if each.request_id.startswith(f"{run_id}/")}
        return sum(not result.withdrawn for request_id in requests for result in self.said(request_id))

    def in_tool(self, run_id: str) -> list[str]:
        return list(self.pushed[run_id])

    async def ask_again(self, run_id: str, request_ids: Sequence[str]) -> None:
        self.lost += [each for each in request_ids if each not in self.lost]

    def hold(self, run_id: str, withdrawals: Sequence[LabelResult]) -> None:
        self.held[run_id] = withdrawals

    def notify(self, run_id: str, notices: Sequence[str]) -> None:
        self.notices[run_id] = notices

    def words(self, request_id: str) -> list[tuple[str, str | None, int]]:
        """Annotator, class or answer, and revision, in order of arrival."""
        return [
            (each.annotator, each.class_name or each.WhichOneof("answer"), each.revision)
            for each in self.recorded
            if each.request_id == request_id
        ]

    async def until(self, holds: Callable[[], bool], *, within_s: float = PATIENCE_S) -> None:
        """Return once ``holds`` is true after a result. TimeoutError if that takes too long."""
        async with asyncio.timeout(within_s), self._changed:
            await self._changed.wait_for(holds)
