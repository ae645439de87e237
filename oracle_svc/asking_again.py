"""Has a tool asked again what it answered in a way that cannot be taken: it is done with that, the run is not."""

from __future__ import annotations

from labelloop.wire.run_book import RunBook

from oracle_svc.asking import Ask, numbered
from oracle_svc.counter import tool_holder
from oracle_svc.desk import Desk
from oracle_svc.leases import Leases
from oracle_svc.taking import RequestId

_DOUBLINGS_MAX = 20


class AskingAgain:
    """A request whose answer was refused is put into the tool again after a pause that grows with each time that it was
    put there, so that a tool that never learns is not asked without end; at the latest when its lease ends anyway.

    A tool that shares samples out among its annotators keeps them, and is not asked again.
    """

    def __init__(self, tool: str, book: RunBook[Desk], leases: Leases) -> None:
        self._holder, self._book, self._leases = tool_holder(tool), book, leases

    async def __call__(self, request: RequestId) -> None:
        desk = self._book.runs.get(request.run_id)
        if desk is None:
            return
        ask = Ask(desk.run_id, request.round, request.sample_id, request.slot or 0, desk.annotators)
        lease = numbered(desk, ask).lease
        pause_s = 2.0 ** min(self._leases.pushes(lease), _DOUBLINGS_MAX)
        await self._leases.shorten(lease, self._holder, pause_s)
        self._book.ring(desk.run_id)  # the lease ends sooner than the pump thinks
