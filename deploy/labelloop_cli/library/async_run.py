"""Follow a run, label its samples, and read what it learned, in asynchronous programs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from labelloop.errors import InvalidInput
from labelloop.oracle.v1 import oracle_pb2
from labelloop.runtime.backoff import Backoff
from labelloop.scorer.v1.scorer_pb2 import ScoreResponse
from labelloop.trainer.v1.trainer_pb2 import CancelRunRequest, GetModelRequest, GetRunRequest, RunStatus

from labelloop_cli.choices import LabelKind
from labelloop_cli.library.options import AnyPath
from labelloop_cli.library.requests import Request, request_of, results_of
from labelloop_cli.library.results import Records, Scores
from labelloop_cli.library.samples import score_requests
from labelloop_cli.library.session import Session
from labelloop_cli.library.state import RunState, check_success, state_of
from labelloop_cli.operations.export import label_table, unlabelled_rows
from labelloop_cli.reporting.run_report import report_page
from labelloop_cli.run_spec.fields import Document, to_document
from labelloop_cli.tables import Table

_RESULTS_AT_ONCE = 1_000
_POLLING = Backoff(0.05, 2.0)  # nothing tells annotators that a sample came up


class AsyncRun:
    """A run. Every method may raise a LabelloopError that says what to do.

    Attributes:
        id: Its id.
    """

    def __init__(self, session: Session, run_id: str) -> None:
        self._session, self.id = session, run_id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    async def state(self) -> RunState:
        """Return where it stands."""
        return state_of(await self._status())

    async def spec(self) -> Document:
        """Return what it was started with, as nested dictionaries; :meth:`AsyncClient.start` takes it as ``spec``."""
        return to_document((await self._status()).spec)

    async def watch(self) -> AsyncGenerator[RunState]:
        """Yield where it stands now, and each change until it ends."""
        async with self._session.translated() as clients, aclosing(clients.watch(self.id)) as statuses:
            async for status in statuses:
                yield state_of(status)

    async def wait(self, timeout_s: float | None = None) -> RunState:
        """Return where it stands once it has ended.

        Raises:
            WrongState: If it failed.
            TimeoutError: If it has not ended within ``timeout_s`` seconds. It goes on.
        """
        async with asyncio.timeout(timeout_s):
            states = [await self.state()]
            async for state in self.watch():
                states[:] = [state]
        return check_success(states[0])

    async def cancel(self, reason: str = "cancelled by the operator") -> RunState:
        """End it early. The labels that it has stay."""
        async with self._session.translated() as clients:
            return state_of((await clients.trainer.CancelRun(CancelRunRequest(run_id=self.id, reason=reason))).run)

    async def labels(self, kind: str = "all") -> Records:
        """Return its labels, in the columns of ``labelloop export labels``; ``kind``: all, labels or auto-labels."""
        try:
            chosen = LabelKind(kind)
        except ValueError as error:
            message = f"kind: must be one of {', '.join(LabelKind)}, not {kind!r}"
            raise InvalidInput("BAD_KIND", message, field="kind") from error
        async with self._session.translated() as clients:
            return Records((await label_table(clients, self.id, chosen))[0])

    async def unlabelled(self) -> Records:
        """Return the samples without a label, least confident first. WrongState before the first model."""
        async with self._session.translated() as clients:
            columns, rows, _ = await unlabelled_rows(clients, self.id)
        return Records(Table(columns, [*rows]))

    async def model(self, round_: int = 0) -> bytes:
        """Return the model with which a round began, or the newest, as ONNX. WrongState before the first."""
        async with self._session.translated() as clients:
            request = GetModelRequest(run_id=self.id, round=round_, described=True)
            return bytes((await clients.trainer.GetModel(request)).model)

    async def inference_session(self, round_: int = 0) -> Any:
        """Return an ``onnxruntime.InferenceSession`` of a model; InvalidInput without ONNX Runtime."""
        try:
            onnxruntime = import_module("onnxruntime")  # the caller's: the command does without
        except ImportError as error:
            message = "a session takes ONNX Runtime: pip install onnxruntime"
            raise InvalidInput("ONNXRUNTIME_MISSING", message) from error
        model = await self.model(round_)
        return await asyncio.to_thread(onnxruntime.InferenceSession, model)

    async def score(self, samples: Any, *, probabilities: bool = False) -> Scores:
        """Return what the newest model says of samples. All answers come from one model.

        Args:
            samples: An array ``[n, *shape]`` in the scale of the pool; or texts.
            probabilities: Whether to return the probability of each class.

        Raises:
            InvalidInput: If the samples are not of the pool's shape and type.
            NotFound: If the run has no model yet.
        """
        pool = (await self._status()).pool
        parts: list[ScoreResponse] = []
        async with self._session.translated() as clients:
            for request in score_requests(pool, samples, probabilities=probabilities):
                if parts:
                    request.model_sha256 = parts[0].model_sha256
                else:
                    request.run_id = self.id
                parts.append(await clients.scorer.Score(request))
        classes = tuple(pool.classes)
        found = np.array([value for part in parts for value in part.probabilities], np.float32)
        return Scores(
            model_sha256=parts[0].model_sha256,
            classes=classes,
            predicted=np.array([each for part in parts for each in part.predicted], np.int64),
            confidence=np.array([each for part in parts for each in part.confidence], np.float32),
            probabilities=found.reshape(-1, len(classes)) if probabilities else None,
        )

    async def report(self, *, price: float | None = None, truth: AnyPath | None = None) -> str:
        """Return the report as HTML that needs no other file.

        Args:
            price: Price of a label; None for the one in the run's spec.
            truth: File of the pool's true classes, to count wrong auto-labels.
        """
        async with self._session.translated() as clients:
            return await report_page(clients, self.id, price, Path(truth) if truth else None)

    async def lease(self, annotator: str, count: int = 1, *, lease_s: int = 600) -> list[Request]:
        """Return up to ``count`` samples to label, at most 100, most wanted first; nobody else is given them meanwhile.

        Those that the annotator holds already come first. An empty list: no sample waits for them now.
        """
        wanted = oracle_pb2.LeaseNextRequest(run_id=self.id, annotator=annotator, count=count, lease_s=lease_s)
        async with self._session.translated() as clients:
            return [request_of(each) for each in (await clients.oracle.LeaseNext(wanted)).requests]

    async def requests(self, annotator: str) -> AsyncGenerator[Request]:
        """Yield samples to label one after the other, as they come up, until the run ends.

        One that is neither answered nor given back before the next is asked for comes again.
        """
        tries = 0
        while not (await self.state()).ended:
            held = await self.lease(annotator)
            for request in held:
                yield request
            tries = 0 if held else tries + 1
            if not held:
                await asyncio.sleep(_POLLING.pause_s(tries))

    async def submit(self, annotator: str, answers: Mapping[Request, str | int], *, comment: str = "") -> int:
        """Record answers, and return how many are new: answers that stand already change nothing.

        Args:
            annotator: Who gives them.
            answers: For each request the name or number of its class, or ``"skip"`` or ``"reject"``.
            comment: In the annotator's words.
        """
        results = [*results_of(answers, annotator, comment)]
        recorded = 0
        async with self._session.translated() as clients:
            for start in range(0, len(results), _RESULTS_AT_ONCE):
                some = oracle_pb2.SubmitResultsRequest(results=results[start : start + _RESULTS_AT_ONCE])
                recorded += (await clients.oracle.SubmitResults(some)).recorded
        return recorded

    async def release(self, annotator: str, requests: Sequence[Request]) -> int:
        """Give samples back, and return how many were theirs."""
        wanted = oracle_pb2.ReleaseLeasesRequest(annotator=annotator, request_ids=[each.id for each in requests])
        async with self._session.translated() as clients:
            return (await clients.oracle.ReleaseLeases(wanted)).released

    async def _status(self) -> RunStatus:
        async with self._session.translated() as clients:
            return (await clients.trainer.GetRun(GetRunRequest(run_id=self.id))).run
