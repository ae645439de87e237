"""One fit under a run's protocol: tensors in, artifact bytes and counts out. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass

from labelloop.events.v1.events_pb2 import Protocol, RunSpec
from torch import Tensor

from trainer_svc.onnx_export import to_onnx
from trainer_svc.softmax import AdamState, Count, count_correct, fit_honest, fit_published
from trainer_svc.training_state import to_bytes


@dataclass(frozen=True)
class FitJob:
    """``evaluation`` is None where there is no evaluation set; ``report`` asks for accuracy on all of it."""

    spec: RunSpec
    dtype: str
    features: Tensor
    labels: Tensor
    start: AdamState
    evaluation: tuple[Tensor, Tensor] | None
    report: bool


@dataclass(frozen=True)
class FitResult:
    """``training_state`` is empty in protocols that carry nothing over. ``fit_s`` leaves reporting and export out."""

    model: bytes
    training_state: bytes
    state: AdamState
    steps: int
    stopping: Count
    evaluation: Count
    fit_s: float


def carry_out(job: FitJob) -> FitResult:
    begin = time.perf_counter()
    published = job.spec.protocol == Protocol.PROTOCOL_PUBLISHED
    if published and job.evaluation:
        features, labels = (part[: job.spec.stopping_sample_count] for part in job.evaluation)
        fitted = fit_published(job.features, job.labels, features, labels, job.start)
    else:
        fitted = fit_honest(job.features, job.labels, job.start, seed=job.spec.seed)
    fit_s = time.perf_counter() - begin
    weights = fitted.state.weights
    report = job.report and job.evaluation is not None
    return FitResult(
        model=to_onnx(weights.numpy(), job.dtype),
        training_state=to_bytes(fitted.state) if published else b"",
        state=fitted.state,
        steps=fitted.steps,
        stopping=fitted.stopping,
        evaluation=count_correct(weights, *job.evaluation) if report and job.evaluation else Count(0, 0),
        fit_s=fit_s,
    )
