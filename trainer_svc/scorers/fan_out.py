"""Send a request to several scorers, each about its own shards, and retry with other scorers if one fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from labelloop.errors import LimitExceeded, from_rpc
from labelloop.eventlog.retry import retry_while_away
from labelloop.runtime.crash_points import crash_point
from labelloop.runtime.waits import waiting_for
from labelloop.scorer.v1.scorer_pb2 import FindFetchedShardsRequest

from trainer_svc.scorers.channels import ScorerChannel, ScorerChannels
from trainer_svc.scorers.sharding import share_out

CALL_TIMEOUT_S = 60.0
# For what a scorer may compute, which ends with its call. A scorer that is dead is noticed within seconds.
LONG_CALL_TIMEOUT_S = 900.0
_PROGRESS_TIMEOUT_S = 2.0
_PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,  # by a server too busy even to refuse calls itself
}

Question = Callable[[Sequence[int]], Message]  # builds the request about these places
Answers = list[tuple[list[int], Any]]  # the places that an answer is about, and the answer
Receive = Callable[[AsyncIterable[Any]], Awaitable[Any]]  # puts the parts of a stream together
T = TypeVar("T")


@dataclass(frozen=True)
class _Asking:
    """What :meth:`FanOut.ask` is asked for, beside the keys.

    Attributes:
        problems: Why the newest call to each scorer, by address, did not succeed.
    """

    method: str
    question: Question
    timeout_s: float
    receive: Receive | None
    problems: dict[str, str] = field(default_factory=dict)


def _passes(error: BaseException) -> bool:
    if not isinstance(error, grpc.aio.AioRpcError) or error.code() not in _PASSING:
        return False
    ours = from_rpc(error)
    return not isinstance(ours, LimitExceeded) or ours.retry_after_s > 0


class FanOut:
    """Distributes requests over the scorers. Waits for scorers that are away; every call must be safe to repeat."""

    def __init__(self, replicas: ScorerChannels) -> None:
        self._replicas = replicas

    async def ask(
        self,
        method: str,
        keys: Mapping[int, str],
        question: Question,
        *,
        timeout_s: float = CALL_TIMEOUT_S,
        receive: Receive | None = None,
    ) -> Answers:
        """Call ``method`` on the replicas that the keys are assigned to.

        Places that a replica does not answer are assigned to the others, until all were tried; after a pause, all are
        tried again.

        Args:
            method: Name of the method of ScorerService.
            keys: The key of each place, usually the digest of a shard, by which it is assigned to a replica.
            question: Builds the request about some of the places.
            timeout_s: How long a call may take. A scorer that hangs is noticed sooner.
            receive: Puts the parts of a stream together, for a method that answers with one. A stream that breaks is
                asked for again, from its start.

        Returns:
            Answers that together are about all places.
        """
        await self._replicas.known()
        asking = _Asking(method, question, timeout_s, receive)
        if len(keys) == 1:  # nearly always: there is nothing to distribute
            return await self._ask_patiently(asking, keys)
        parts = share_out(keys, self._replicas.to_ask())
        return await _all_of([self._ask_patiently(asking, _at(keys, places)) for places in parts.values()])

    async def fetched(self, pool: str) -> set[int]:
        """Return the places of the shards of a pool that any scorer has; of scorers that answer within two seconds."""

        async def ask(replica: ScorerChannel) -> Iterable[int]:
            request = FindFetchedShardsRequest(pool_sha256=pool)
            try:
                return (await replica.stub.FindFetchedShards(request, timeout=_PROGRESS_TIMEOUT_S)).shards
            except grpc.aio.AioRpcError:  # its work is asked for elsewhere, and says what is wrong
                return ()

        return set().union(*await asyncio.gather(*map(ask, await self._replicas.known())))

    async def _ask_patiently(self, asking: _Asking, keys: Mapping[int, str]) -> Answers:
        crash_point(f"before call {asking.method}")
        try:
            with waiting_for("scorers", lambda: self._waits_by(asking)):
                answers = await retry_while_away(lambda: self._ask_each(asking, keys, frozenset()), _passes)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) or error from error
        crash_point(f"after call {asking.method}")
        return answers

    async def _ask_each(self, asking: _Asking, keys: Mapping[int, str], tried: frozenset[str]) -> Answers:
        replicas = self._replicas.to_ask(tried)

        async def ask(replica: ScorerChannel, places: list[int]) -> Answers:
            try:
                return [(places, await self._call(replica, asking, places))]
            except grpc.aio.AioRpcError as error:
                if not _passes(error):
                    raise
                asking.problems[replica.address] = problem = error.details() or error.code().name
                replica.failed(problem)
                others = tried | {replica.address}
                if not self._replicas.to_ask(others):
                    raise
            return await self._ask_each(asking, _at(keys, places), others)

        parts = share_out(keys, replicas)
        return await _all_of([ask(replicas[address], places) for address, places in parts.items()])

    async def _call(self, replica: ScorerChannel, asking: _Asking, places: list[int]) -> Any:
        stub, waits = getattr(replica.stub, asking.method), self._replicas.is_one_for_good
        call = stub(asking.question(places), timeout=asking.timeout_s, wait_for_ready=waits)
        answer = await (asking.receive(call) if asking.receive else call)
        asking.problems.pop(replica.address, None)
        return answer

    def _waits_by(self, asking: _Asking) -> str:
        """Return which scorers do not do what they are asked, and why; empty if they are at work."""
        silent = dict.fromkeys(self._replicas.unconnected(), "it does not answer: is it up?")
        problems = asking.problems | silent
        told = "; ".join(f"the scorer at {address}: {problem}" for address, problem in problems.items())
        return f"{asking.method} is tried again: {told}" if told else ""


def _at(keys: Mapping[int, str], places: Sequence[int]) -> dict[int, str]:
    return {place: keys[place] for place in places}


async def _all_of(works: Sequence[Coroutine[Any, Any, list[T]]]) -> list[T]:
    """Run ``works`` concurrently and concatenate their lists; if one fails, cancel the others."""
    if len(works) == 1:  # nearly always: a task would cost more than everything else here
        return await works[0]
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return [each for found in await asyncio.gather(*tasks) for each in found]
    finally:
        for task in tasks:
            task.cancel()
