"""The integer kernel computes exact sums, and there is no prefilter where it cannot be compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from labelloop.scorer.v1.scorer_pb2 import Strategy
from structlog.testing import capture_logs

from scorer_svc.prefilter.integer_kernel import Code, Unavailable, is_exact, machine_code
from scorer_svc.prefilter.kernel_choice import PrefilterFactory, kernel_in_use
from scorer_svc.prefilter.linear_head import LinearSoftmax
from tests.unit.kernels import SIZES, numpy_kernel

LINEAR = LinearSoftmax(np.eye(7, 3, dtype=np.float32), np.zeros(3, np.float32), "uint8")

sizes = pytest.mark.parametrize(("features", "classes"), SIZES)


def no_code(features: int, classes: int) -> Code:
    raise Unavailable("this processor is unknown")


def wrong_code(*arguments: Any) -> None:
    """Leave the output unchanged."""


def kernels_shown(prefilters: PrefilterFactory) -> list[str]:
    return [sample.labels["kernel"] for metric in kernel_in_use(prefilters) for sample in metric.samples]


@sizes
def test_machine_code_for_this_processor_computes_exact_sums(features: int, classes: int) -> None:
    pytest.importorskip("llvmlite", reason="the extra llvm is not installed")
    assert is_exact(machine_code(features, classes), features, classes)


@sizes
def test_the_kernel_in_numpy_computes_exact_sums(features: int, classes: int) -> None:
    assert is_exact(numpy_kernel(features, classes), features, classes)


def test_code_that_computes_wrong_sums_is_detected() -> None:
    assert not is_exact(wrong_code, 40, 3)


def test_a_kernel_that_cannot_be_compiled_is_given_up_with_one_warning() -> None:
    prefilters = PrefilterFactory(no_code, lambda: True)
    assert kernels_shown(prefilters) == ["integer"]
    with capture_logs() as lines:
        assert prefilters.of(LINEAR) is None
        assert prefilters.of(LINEAR) is None
    assert [(line["log_level"], line["why"]) for line in lines] == [("warning", "this processor is unknown")]
    assert kernels_shown(prefilters) == ["none"]


def test_log_says_how_to_install_llvmlite_if_it_is_missing() -> None:
    prefilters = PrefilterFactory(no_code, lambda: False)
    with capture_logs() as lines:
        prefilters.announce()
        assert prefilters.of(LINEAR) is None
    assert [line["faster_with"] for line in lines] == ["pip install 'labelloop[llvm]'"]
    assert kernels_shown(prefilters) == ["none"]


def test_compiled_kernel_is_logged_and_used() -> None:
    prefilters = PrefilterFactory(numpy_kernel, lambda: True)
    with capture_logs() as lines:
        prefilters.announce()
        found = prefilters.of(LINEAR)
    assert [line["event"] for line in lines] == ["prefilter_ready"]
    assert found is not None
    samples = np.arange(14, dtype=np.uint8).reshape(2, 7)
    assert found.estimates(samples, Strategy.STRATEGY_MARGIN).shape == (2,)
