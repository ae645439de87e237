"""exp and log of the machine code are as close as their proofs say."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

ir = pytest.importorskip("llvmlite.ir", reason="the extra llvm is not installed")

from labelloop.runtime.machine_code import LONG, Processor, compile_functions, loop, this_processor  # noqa: E402

from scorer_svc.prefilter.elementary_code import EXP_LEAST, exp, log  # noqa: E402
from scorer_svc.prefilter.vectors import FLOAT, Floats  # noqa: E402
from tests.processors import runnable  # noqa: E402

U = 2.0**-24
LANES = 8
PROCESSORS = ["this one", "SSE2"]


def processor_of(name: str) -> Processor:
    return this_processor() if name == "this one" else runnable(name)


def computed(emit: Callable[[Floats, Any], Any], values: NDArray[np.float32], processor: str) -> NDArray[np.float64]:
    assert len(values) % LANES == 0
    module = ir.Module()
    kind = ir.FunctionType(ir.VoidType(), [FLOAT.as_pointer(), LONG])
    function = ir.Function(module, kind, "each")
    to = ir.IRBuilder(function.append_basic_block())
    with loop(to, function.args[1]) as (index, _):
        floats, place = Floats(to, LANES), to.mul(index, LONG(LANES))
        floats.store(emit(floats, floats.load(function.args[0], place)), function.args[0], place)
    to.ret_void()
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
    (code,) = compile_functions(module, processor_of(processor), each=prototype)
    found = values.copy()
    code(found.ctypes.data, len(found) // LANES)
    return found.astype(np.float64)


@pytest.mark.parametrize("processor", PROCESSORS)
def test_exp_is_within_8_units(processor: str) -> None:
    turns = np.arange(-125.5, 0) * np.log(2)  # where the whole power changes
    near = np.concatenate([turns + step for step in (-1e-5, -1e-6, 0, 1e-6, 1e-5)])
    grid = np.r_[np.linspace(EXP_LEAST, 0, 2_000_000), -np.logspace(-30, 1.9, 100_000), near]
    values = grid[grid >= EXP_LEAST].astype(np.float32)
    values = values[: len(values) // LANES * LANES]
    exact = np.exp(values.astype(np.float64))
    assert (np.abs(computed(exp, values, processor) - exact) <= 8 * U * exact).all()


@pytest.mark.parametrize("processor", PROCESSORS)
def test_exp_of_0_is_1_and_of_less_than_can_be_told_is_that_of_the_least(processor: str) -> None:
    found = computed(exp, np.array([0, -0.0, EXP_LEAST, -88, -1e4, -1e30, -np.inf, 1e-45], np.float32), processor)
    assert found[[0, 1, 7]].tolist() == [1, 1, 1]
    assert (np.abs(found[2:7] / np.exp(EXP_LEAST) - 1) <= 8 * U).all()


@pytest.mark.parametrize("processor", PROCESSORS)
def test_log_is_within_2_units_and_6_of_it(processor: str) -> None:
    roots = np.sqrt(0.5) * 2.0 ** np.arange(1, 20)
    grid = np.r_[1, np.linspace(1, 128, 1_000_000), 1 + np.logspace(-8, 6, 100_000), roots, roots * (1 - 1e-7)]
    values = grid[: len(grid) // LANES * LANES].astype(np.float32)
    exact = np.log(values.astype(np.float64))
    assert (np.abs(computed(log, values, processor) - exact) <= 2 * U + 6 * U * exact).all()
