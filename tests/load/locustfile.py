"""Locust users in a closed loop: each sends its next request once the last one is answered.

``make load`` runs it without Locust's page; ``make load UI=1`` opens the page. LOAD_PLAN names the file with the plan,
a pickle of our own. At the end the outcomes are written to the file that LOAD_OUTCOMES names.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import grpc.experimental.gevent as grpc_gevent
from labelloop.rpc.server import CHANNEL_OPTIONS
from labelloop_cli.load.calls import DEADLINE_S, Calls, Outcomes
from locust import User, constant, events, task

grpc_gevent.init_gevent()

PLAN: dict[str, Calls] = pickle.loads(Path(os.environ["LOAD_PLAN"]).read_bytes())
ADDRESS = os.environ["LOAD_ADDRESS"]
OUTCOMES: dict[str, Outcomes] = {name: Outcomes() for name in PLAN}
START = time.perf_counter()


class ScoringUser(User):
    """Send the plan's requests in turn, each user over a connection of its own."""

    wait_time = constant(0)

    def on_start(self) -> None:
        self._channel = grpc.insecure_channel(
            ADDRESS, options=[*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        )
        self._senders = {
            name: _Stream(self._channel, calls) if calls.is_stream else _Unary(self._channel, calls)
            for name, calls in PLAN.items()
        }
        self._numbers = count()

    def on_stop(self) -> None:
        self._channel.close()

    @task
    def call(self) -> None:
        number = next(self._numbers)
        for name, calls in PLAN.items():
            self._call(name, calls, number % len(calls.bodies))

    def _call(self, name: str, calls: Calls, index: int) -> None:
        begin, status, answer, problem = time.perf_counter(), "OK", b"", None
        try:
            answer = self._senders[name].send(index)
        except grpc.RpcError as error:
            status, problem = error.code().name, error
        took_s = time.perf_counter() - begin
        OUTCOMES[name].add(begin - START, took_s, status)
        if status == "OK":
            OUTCOMES[name].answers[index, answer] += 1
        self.environment.events.request.fire(
            request_type="gRPC",
            name=name,
            response_time=took_s * 1e3,
            response_length=len(answer),
            exception=problem,
            context={},
        )


class _Unary:
    def __init__(self, channel: grpc.Channel, calls: Calls) -> None:
        self._method: Any = channel.unary_unary(calls.path)
        self._calls = calls

    def send(self, index: int) -> bytes:
        return bytes(self._method(self._calls.bodies[index], timeout=DEADLINE_S))


class _Stream:
    def __init__(self, channel: grpc.Channel, calls: Calls) -> None:
        self._method: Any = channel.stream_stream(calls.path)
        self._calls = calls
        self._open()

    def _open(self) -> None:
        self._requests: SimpleQueue[int] = SimpleQueue()
        self._answers: Iterator[bytes] = self._method(self._sent())

    def _sent(self) -> Iterator[bytes]:
        while True:
            yield self._calls.bodies[self._requests.get()]

    def send(self, index: int) -> bytes:
        self._requests.put(index)
        try:
            return bytes(next(self._answers, b""))  # a stream that ends too early is a wrong answer
        except grpc.RpcError:
            self._open()
            raise


def leave_outcomes(**_: Any) -> None:
    Path(os.environ["LOAD_OUTCOMES"]).write_bytes(pickle.dumps(OUTCOMES))


events.quitting.add_listener(leave_outcomes)  # type: ignore[no-untyped-call]
