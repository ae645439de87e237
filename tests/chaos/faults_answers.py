"""Faults of a label source: results that are slow, late, duplicate, contradictory or not requested."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

import grpc
import numpy as np
import pytest
from labelloop.domain.run_end import RUN_ENDS
from labelloop.errors import InvalidInput, from_rpc
from labelloop.events.v1.events_pb2 import LabelSource
from labelloop.oracle.v1.oracle_pb2 import (
    ListOpenSamplesRequest,
    SubmitLabelsRequest,
    SubmitLabelsResponse,
    SubmittedLabel,
)

from tests.blobs import CLASSES, POOL_SIZE
from tests.chaos.trial import Fault, Trial, again_until_answered

Submit = Callable[["Annotators", list[SubmittedLabel]], Awaitable[None]]


class Annotators:
    """The annotators of one run."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.truth = np.load(trial.world.blobs.labels)

    async def open(self) -> list[int]:
        request = ListOpenSamplesRequest(run_id=self.trial.run_id)
        try:
            answer = await again_until_answered(self.trial.world.clients.oracle.ListOpenSamples, request)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:  # the oracle has not read the run's events yet
                raise
            return []
        return [sample.sample_id for sample in answer.samples]

    def right(self, sample_ids: list[int]) -> list[SubmittedLabel]:
        return [SubmittedLabel(sample_id=sample_id, label=int(self.truth[sample_id])) for sample_id in sample_ids]

    async def submit(self, labels: list[SubmittedLabel]) -> SubmitLabelsResponse:
        """Submit until there is a response; acknowledged labels must be in the training set at the end."""
        request = SubmitLabelsRequest(run_id=self.trial.run_id, annotator="somebody", labels=labels)
        answer: SubmitLabelsResponse = await again_until_answered(self.trial.world.clients.oracle.SubmitLabels, request)
        for label in labels:
            self.trial.acknowledged.setdefault(label.sample_id, label.label)
        return answer


async def _label_all(trial: Trial, submit: Submit) -> None:
    """Label batch after batch until the run ends."""
    annotators = Annotators(trial)
    while not any(seen.kind in RUN_ENDS for seen in trial.world.watch.runs[trial.run_id]):
        if waiting := await annotators.open():
            await submit(annotators, annotators.right(waiting))
        else:
            await asyncio.sleep(0.01)


async def _slowly(annotators: Annotators, labels: list[SubmittedLabel]) -> None:
    for label in annotators.trial.rng.sample(labels, len(labels)):
        await asyncio.sleep(annotators.trial.rng.uniform(0, 0.05))
        await annotators.submit([label])


async def _twice(annotators: Annotators, labels: list[SubmittedLabel]) -> None:
    await asyncio.gather(*(annotators.submit(labels) for _ in range(3)))
    assert (await annotators.submit(labels)).recorded == 0


async def _contradicting(annotators: Annotators, labels: list[SubmittedLabel]) -> None:
    """Submit a batch again with other classes; the first labels remain."""
    await annotators.submit(labels)
    other = [SubmittedLabel(sample_id=each.sample_id, label=(each.label + 1) % CLASSES) for each in labels]
    assert (await annotators.submit(other)).recorded == 0


async def _late(annotators: Annotators, labels: list[SubmittedLabel]) -> None:
    """Submit all labels of earlier rounds again with other classes, before the batch."""
    earlier = [
        SubmittedLabel(sample_id=each, label=(label + 1) % CLASSES)
        for each, label in annotators.trial.acknowledged.items()
    ]
    assert (await annotators.submit(earlier)).recorded == 0
    await annotators.submit(labels)


async def _unasked(annotators: Annotators, labels: list[SubmittedLabel]) -> None:
    asked = {
        seen
        for s in annotators.trial.world.watch.runs[annotators.trial.run_id]
        for seen in s.event.labels_requested.sample_ids
    }
    stranger = annotators.trial.rng.choice([sample_id for sample_id in range(POOL_SIZE) if sample_id not in asked])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await annotators.submit([*labels, SubmittedLabel(sample_id=stranger, label=0)])
    assert isinstance(from_rpc(caught.value), InvalidInput)
    await annotators.submit(labels)


async def _while_killed(annotators: Annotators, labels: list[SubmittedLabel]) -> None:
    """Kill the oracle during one submission in ten; the client gets no response and retries."""
    sending = asyncio.ensure_future(annotators.submit(labels))
    if annotators.trial.rng.random() < 0.1:
        await asyncio.sleep(annotators.trial.rng.uniform(0, 0.002))
        await annotators.trial.world.up_again("oracle", annotators.trial.world.send("oracle", signal.SIGKILL))
    await sending


def _fault(name: str, how: str, submit: Submit) -> Fault:
    async def make(trial: Trial) -> None:
        await _label_all(trial, submit)

    changes: dict[str, object] = {"label_source": LabelSource.LABEL_SOURCE_QUEUE}
    return Fault(f"answers: {name}", how, make, changes=changes)


FAULTS = [
    _fault("slow and out of order", "one by one in random order, each up to 50 ms late", _slowly),
    _fault("duplicate", "each batch sent three times at once and once more", _twice),
    _fault("contradictory", "each batch answered again with other classes: the first answer stands", _contradicting),
    _fault("late", "before each batch, all earlier ones answered again with other classes", _late),
    _fault("unasked", "a sample that nobody asked for among the answers: all are refused, then sent right", _unasked),
    _fault("while the oracle dies", "SIGKILL of the oracle within 2 ms of every tenth submission", _while_killed),
]
