"""A fake result sink with those rules of the real one that matter to Label Studio; it remembers results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from labelloop.errors import Unready
from labelloop.oracle.v1.oracle_pb2 import LabelResult, LabelVerdict

from oracle_svc.integrations.base import RecordStatus
from tests.patience import PATIENCE_S


class FakeLog:
    """``away`` makes it raise Unready."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes, self.away = classes, False
        self.recorded: list[LabelResult] = []
        self.refused: list[LabelResult] = []
        self.repeated = self.turned_away = 0
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
