"""A fake result sink that keeps what it receives, and can be unavailable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from labelloop.errors import InvalidInput, Unready
from labelloop.oracle.v1.oracle_pb2 import LabelResult, LabelVerdict, Verdict

from oracle_svc.integrations.base import RecordStatus
from oracle_svc.result_json import read_result
from tests.patience import PATIENCE_S

T = TypeVar("T")


class FakeIntake:
    """``away`` makes it raise Unready; ``holding`` makes it wait forever."""

    def __init__(self, *, away: bool = False, holding: bool = False) -> None:
        self.away, self.holding = away, holding
        self.recorded: list[LabelResult] = []
        self.repeated: list[LabelResult] = []
        self.refused: list[bytes] = []
        self.turned_away = self.held = 0
        self.reading_problem = ""
        self._changed = asyncio.Condition()

    async def take(self, result: LabelResult) -> RecordStatus:
        return await self._noted(self._take, result)

    async def take_json(self, data: bytes) -> LabelVerdict:
        result = LabelResult()
        with suppress(InvalidInput):
            result = read_result(data)
        taken = await (self.take(result) if result.request_id else self._noted(self._refuse, data))
        verdict = LabelVerdict(request_id=result.request_id, annotator=result.annotator)
        verdict.verdict = Verdict.Value(f"VERDICT_{taken.name}")
        return verdict

    def note_reading(self, problem: str = "") -> None:
        self.reading_problem = problem

    async def until(self, holds: Callable[[], bool], *, within_s: float = PATIENCE_S) -> None:
        """Return once ``holds`` is true after a result came; TimeoutError if that takes too long."""
        async with asyncio.timeout(within_s), self._changed:
            await self._changed.wait_for(holds)

    async def until_all(self, count: int) -> None:
        await self.until(lambda: len(self.recorded) >= count)

    def ids(self) -> list[str]:
        return [result.request_id for result in self.recorded]

    async def _noted(self, note: Callable[[T], RecordStatus], what: T) -> RecordStatus:
        try:
            if self.holding:
                self.held += 1
            if self.away:
                self.turned_away += 1
                raise Unready("AWAY", "the log is away: try again")
            if not self.holding:
                return note(what)
        finally:
            async with self._changed:
                self._changed.notify_all()
        await asyncio.Event().wait()
        raise AssertionError("never set")

    def _take(self, result: LabelResult) -> RecordStatus:
        if result in self.recorded:
            self.repeated.append(result)
            return RecordStatus.REPEATED
        self.recorded.append(result)
        return RecordStatus.RECORDED

    def _refuse(self, data: bytes) -> RecordStatus:
        self.refused.append(data)
        return RecordStatus.REFUSED
