"""The integer kernel computes exact sums, and there is no prefilter where it cannot be compiled."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from labelloop.scorer.v1.scorer_pb2 import Strategy
from structlog.testing import capture_logs

from scorer_svc.prefilter.instructions import Instructions, instructions
from scorer_svc.prefilter.integer_kernel import Kernel, Unavailable, machine_code, usable
from scorer_svc.prefilter.kernel_check import is_right
from scorer_svc.prefilter.kernel_choice import PrefilterFactory, kernel_in_use
from scorer_svc.prefilter.layout import Layout
from scorer_svc.prefilter.linear_head import LinearSoftmax
from tests.unit.kernels import INT8, INT8_SHIFTED, INT16, SIZES, array_at, numpy_kernel, numpy_kernels

LINEAR = LinearSoftmax(np.eye(7, 3, dtype=np.float32), np.zeros(3, np.float32), "uint8")

sizes = pytest.mark.parametrize(("features", "classes"), SIZES)


def no_code(features: int, classes: int) -> list[Kernel]:
    raise Unavailable("this processor is unknown")


def wrong_code(*arguments: Any) -> None:
    """Leave the output unchanged."""


def kernels_shown(prefilters: PrefilterFactory) -> list[str]:
    return [sample.labels["kernel"] for metric in kernel_in_use(prefilters) for sample in metric.samples]


@sizes
def test_machine_code_for_this_processor_computes_exact_sums(features: int, classes: int) -> None:
    pytest.importorskip("llvmlite", reason="the extra llvm is not installed")
    kernels = machine_code(features, classes)
    assert kernels
    assert all(is_right(kernel) for kernel in kernels)


@sizes
@pytest.mark.parametrize("how", [INT8, INT8_SHIFTED, INT16])
def test_kernels_in_numpy_compute_exact_sums(features: int, classes: int, how: Instructions) -> None:
    assert is_right(numpy_kernel(Layout(features, classes, how)))


@pytest.mark.parametrize("wrong", [0, 1])
@pytest.mark.parametrize("how", [INT8, INT16])
def test_code_that_is_wrong_about_one_sample_is_detected(how: Instructions, wrong: int) -> None:
    """Once its logit of one class, and once its score, as by an instruction that saturates."""
    kernel = numpy_kernel(Layout(40, 3, how))

    def code(*arguments: Any) -> None:
        kernel.code(*arguments)
        strategy, found = arguments[-3], arguments[-1]
        if bool(strategy) == bool(wrong):
            array_at(found, ctypes.c_float, 1)[0] += 1e-4

    assert not is_right(Kernel(kernel.layout, code))


def test_code_that_writes_nothing_is_detected() -> None:
    assert not is_right(Kernel(Layout(40, 3, INT16), wrong_code))


def test_kernels_that_fail_or_are_wrong_are_left_out() -> None:
    layouts = [Layout(40, 3, each) for each in (INT8, INT8_SHIFTED, INT16)]

    def compiler(layout: Layout) -> Kernel:
        if layout.instructions is INT8:
            raise RuntimeError("unknown intrinsic")
        kernel = numpy_kernel(layout)
        return kernel if layout.instructions is INT16 else Kernel(layout, wrong_code)

    assert [each.layout.instructions for each in usable(layouts, compiler, is_right, "a processor")] == [INT16]
    with pytest.raises(Unavailable, match="a processor computes wrong sums"):
        usable(layouts[:2], compiler, is_right, "a processor")
    with pytest.raises(Unavailable, match="unknown intrinsic"):
        usable(layouts[:1], compiler, is_right, "a processor")


@pytest.mark.parametrize(
    ("triple", "features", "products"),
    [
        ("x86_64-unknown-linux-gnu", "+sse2,-avx2", ["neighbours"]),
        ("x86_64-unknown-linux-gnu", "+avx2,-avxvnni", ["vpmaddubsw", "neighbours"]),
        ("x86_64-unknown-linux-gnu", "+avx2,+avxvnni,-avx512f", ["vpdpbusd", "neighbours"]),
        ("x86_64-unknown-linux-gnu", "+avx2,+avx512f,+avx512bw,+avx512vl", ["vpmaddubsw", "neighbours"]),
        ("x86_64-unknown-linux-gnu", "+avx2,+avx512f,+avx512bw,+avx512vl,+avx512vnni", ["vpdpbusd", "neighbours"]),
        ("x86_64-unknown-linux-gnu", "+avx2,+avx512vnni,-avx512f", ["vpmaddubsw", "neighbours"]),
        ("aarch64-unknown-linux-gnu", "+neon", ["halves"]),
        ("aarch64-unknown-linux-gnu", "+neon,+dotprod", ["sdot", "halves"]),
        ("arm64-apple-darwin", "+dotprod", ["sdot", "halves"]),
        ("riscv64-unknown-linux-gnu", "+v,+dotprod", ["halves"]),
    ],
)
def test_only_instructions_that_a_processor_has_are_chosen(triple: str, features: str, products: list[str]) -> None:
    assert [each.product for each in instructions(triple, features)] == products


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
    prefilters = PrefilterFactory(numpy_kernels, lambda: True)
    with capture_logs() as lines:
        prefilters.announce()
        found = prefilters.of(LINEAR)
    assert [line["event"] for line in lines] == ["prefilter_ready"]
    assert found is not None
    samples = np.arange(14, dtype=np.uint8).reshape(2, 7)
    assert found.screens[0].lowest(samples, np.arange(2), Strategy.STRATEGY_MARGIN).shape == (2,)
