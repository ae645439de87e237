"""One fit under a run's protocol: tensors in, artifact bytes and figures out. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from labelloop.events.v1.events_pb2 import FeatureKind, Protocol, RunSpec
from numpy.typing import NDArray
from torch import Tensor

from trainer_svc.domain.stopping import kappa
from trainer_svc.model.adam_softmax import AdamState, Count, count_correct, fit_published
from trainer_svc.model.calibration import calibration_error
from trainer_svc.model.onnx_export import joined, optional_columns, to_onnx
from trainer_svc.model.regression import AS_THEY_VARY, EVENLY, Regression, fit_regression
from trainer_svc.model.tally import NOTHING, Tally, tally, tally_largest
from trainer_svc.model.training_state import to_bytes

Labelled = tuple[Tensor, Tensor]  # features [n, features + 1] and labels [n]
_NOTHING = Count(0, 0)
_CONTROLS_MIN = 2  # reports show no model of a single control sample


@dataclass(frozen=True)
class FitJob:
    """``start`` is what the published protocol goes on from. ``paid`` and ``control`` ``[n]`` say which labels somebody
    gave, and which samples were drawn at random. ``evaluation`` is None where there is no evaluation set; ``report``
    asks for accuracy on all of it. ``graph`` makes the features, and is empty where ``features`` are the samples.
    ``stop_set`` ``[n, features + 1]`` is None where no rule looks at it; ``before`` are the weights of the model
    before.
    """

    spec: RunSpec
    dtype: str
    features: Tensor
    labels: Tensor
    paid: Tensor
    control: Tensor
    start: AdamState
    evaluation: Labelled | None
    report: bool
    graph: bytes = b""
    stop_set: Tensor | None = None
    before: Tensor | None = None


@dataclass(frozen=True)
class Figures:
    """What is known of a model beside itself; see ``ModelTrained``."""

    steps: int
    stopping: Tally
    evaluation: Tally = NOTHING
    l2: float = 0.0
    temperature: float = 0.0
    calibration_error: float = 0.0
    evaluation_calibration_error: float = 0.0
    control: Tally = NOTHING
    control_evaluation: Count = _NOTHING
    agreement: float | None = None
    expected_accuracy: float = 0.0


@dataclass(frozen=True)
class FitResult:
    """``head`` is empty where the model itself ranks the pool, ``state`` None in protocols that carry nothing over.
    ``fit_s`` leaves reporting and export out. ``why_torch`` says why PyTorch took the published protocol's steps."""

    model: bytes
    head: bytes
    weights: Tensor
    state: AdamState | None
    figures: Figures
    fit_s: float
    why_torch: str = ""

    @property
    def training_state(self) -> bytes:
        return to_bytes(self.state) if self.state else b""


def carry_out(job: FitJob) -> FitResult:
    return _published(job) if job.spec.protocol == Protocol.PROTOCOL_PUBLISHED else _honest(job)


def _published(job: FitJob) -> FitResult:
    assert job.evaluation is not None, "a spec without an evaluation set is refused"
    begin = time.perf_counter()
    features, labels = (part[: job.spec.stopping_sample_count] for part in job.evaluation)
    fitted = fit_published(job.features, job.labels, features, labels, job.start)
    fit_s = time.perf_counter() - begin
    weights = fitted.state.weights
    stopping = tally_largest(torch.mm(weights, features.T), labels)
    evaluation = tally_largest(torch.mm(weights, job.evaluation[0].T), job.evaluation[1]) if job.report else NOTHING
    figures = Figures(fitted.steps, stopping, evaluation)
    model = to_onnx(weights.numpy(), job.dtype)
    return FitResult(model, b"", weights, fitted.state, figures, fit_s, fitted.why_torch)


def _honest(job: FitJob) -> FitResult:
    begin = time.perf_counter()
    class_count, optional = len(job.start.weights), _optional(job)
    fitted = fit_regression(
        job.features,
        job.labels,
        class_count,
        seed=job.spec.seed,
        trusted=job.paid,
        powers=_powers(job),
        optional=optional,
        balanced=job.spec.balance_classes,
    )
    fit_s = time.perf_counter() - begin
    figures = Figures(
        steps=fitted.steps,
        stopping=_cross_validated(job, fitted),
        l2=fitted.l2,
        temperature=fitted.temperature,
        calibration_error=fitted.calibration_error,
        control=_on_control(job, fitted),
    )
    figures = _judged(job, fitted.weights, class_count, optional, figures)
    if job.stop_set is not None:
        figures = _looked_ahead(job.stop_set, fitted.weights, job.before, figures)
    head = to_onnx(fitted.weights.numpy(), "float32" if job.graph else job.dtype)
    model = joined(job.graph, head) if job.graph else head
    return FitResult(model, head if job.graph else b"", fitted.weights, None, figures, fit_s)


def _powers(job: FitJob) -> Sequence[float]:
    return EVENLY if job.graph else AS_THEY_VARY


def _optional(job: FitJob) -> int:
    """Return how many of the last features the fit may leave out, which only graphs that were learned here say."""
    learned = job.spec.features == FeatureKind.FEATURE_KIND_SCATTERING
    return optional_columns(job.graph, job.features.shape[1] - 1) if learned else 0


def _cross_validated(job: FitJob, fitted: Regression) -> Tally:
    """Count the held-out samples that models fitted without them predict correctly."""
    judged = _held_out(fitted)
    return tally(fitted.held_out_probabilities[judged].argmax(axis=1), job.labels.numpy()[judged], len(fitted.weights))


def _on_control(job: FitJob, fitted: Regression) -> Tally:
    """Count the control samples that models fitted without them predict correctly.

    The only sample of its class counts as wrong, as such a model has not seen the class. Nothing is counted if nothing
    was held out.
    """
    judged = _held_out(fitted)
    if not judged.any():
        return NOTHING
    drawn = job.control.numpy()
    predicted = np.where(judged, fitted.held_out_probabilities.argmax(axis=1), -1)
    return tally(predicted[drawn], job.labels.numpy()[drawn], len(fitted.weights))


def _held_out(fitted: Regression) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(fitted.held_out_probabilities).any(axis=1))


def _judged(job: FitJob, weights: Tensor, class_count: int, optional: int, figures: Figures) -> Figures:
    """In a round that reports, add what is measured on the evaluation set.

    Of the model, that is its accuracy and how well it knows how sure it may be. A second model is fitted to the control
    samples alone, and judged by cross-validation where there is no evaluation set; that takes as long as a fit to as
    many labels, so that there is none where reports do not show it: without other samples, or with a single control.
    """
    if not job.report:
        return figures
    if job.evaluation:
        features, labels = job.evaluation
        logits = torch.mm(weights, features.T)  # classes first: a third of the time
        error = calibration_error(torch.softmax(logits, 0).T.numpy(), labels.numpy())
        figures = replace(figures, evaluation=tally_largest(logits, labels), evaluation_calibration_error=error)
    drawn = job.control
    if drawn.all() or int(drawn.sum()) < _CONTROLS_MIN:
        return figures
    features, labels = job.features[drawn], job.labels[drawn]
    alone = fit_regression(
        features,
        labels,
        class_count,
        seed=job.spec.seed,
        powers=_powers(job),
        optional=optional,
        balanced=job.spec.balance_classes,
    )
    count = count_correct(alone.weights, *job.evaluation) if job.evaluation else alone.held_out
    return replace(figures, control_evaluation=count)


def _looked_ahead(stop_set: Tensor, weights: Tensor, before: Tensor | None, figures: Figures) -> Figures:
    probabilities = torch.softmax(stop_set @ weights.T, 1)
    figures = replace(figures, expected_accuracy=float(probabilities.max(1).values.double().mean()))
    if before is None:
        return figures
    then, now = ((stop_set @ each.T).argmax(1).numpy() for each in (before, weights))
    return replace(figures, agreement=kappa(then, now, len(weights)))
