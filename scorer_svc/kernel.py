"""Machine code that multiplies rows of uint8 with int16 weights, made by LLVM for the processor at hand.

The products are written so that LLVM makes of them what the processor has: a multiplication of 32 pairs that adds
neighbours (vpdpwssd, vpmaddwd) where there is one. ONNX Runtime's integer product, made for many columns, takes four
times as long for a model's ten.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numpy.typing import NDArray

_PRODUCTS = 32  # in one step, a vector register of 512 bits
_SUMS = _PRODUCTS // 2
_GROUP = 10  # classes at a time, a register each
_CACHE_LINE = 64
_BYTE, _SHORT, _INT, _LONG, _FLOAT = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
_SUM = ir.VectorType(_INT, _SUMS)
_SUM_UP = f"llvm.vector.reduce.add.v{_SUMS}i32"
_NAME = "logits"


@dataclass(frozen=True)
class Weights:
    """``[classes, features]`` int16 in the order in which the machine code reads them, ``scales`` and ``bias``
    ``[classes]`` float32."""

    features: int
    ordered: NDArray[np.int16]
    scales: NDArray[np.float32]
    bias: NDArray[np.float32]


def order(weights: NDArray[np.int16], scales: NDArray[np.float32], bias: NDArray[np.float32]) -> Weights:
    """Groups of classes, in them steps, in them a line for each class; zeros fill up the last step."""
    classes, features = weights.shape
    steps = -(-features // _PRODUCTS)
    whole = np.zeros((classes, steps, _PRODUCTS), np.int16)
    whole.reshape(classes, -1)[:, :features] = weights
    groups = [whole[first : first + _GROUP].transpose(1, 0, 2).ravel() for first in range(0, classes, _GROUP)]
    return Weights(features, _aligned(np.concatenate(groups)), scales, bias)


def _aligned(values: NDArray[np.int16]) -> NDArray[np.int16]:
    """At the start of a cache line: a load that straddles two takes twice as long."""
    space = np.empty(values.nbytes + _CACHE_LINE, np.uint8)
    skip = -space.ctypes.data % _CACHE_LINE
    placed = space[skip : skip + values.nbytes].view(np.int16)
    placed[:] = values
    return placed


def logits(samples: NDArray[np.uint8], weights: Weights) -> NDArray[np.float32]:
    """``scales * (weights @ sample) + bias``, ``[classes, n]``, for each of ``[n, features]`` C-contiguous samples."""
    assert samples.flags.c_contiguous
    assert samples.shape[1:] == (weights.features,)
    found = np.empty((len(weights.bias), len(samples)), np.float32)
    if not len(samples):
        return found
    code = _machine_code(weights.features, len(weights.bias))
    arrays = (weights.ordered, weights.scales, weights.bias, found)
    code(samples.ctypes.data, len(samples), *(array.ctypes.data for array in arrays))
    return found


_ENGINES: list[Any] = []  # what machine code lives in


@cache
def _machine_code(features: int, classes: int) -> Callable[..., None]:
    """A call lets other threads run meanwhile."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    module = binding.parse_assembly(str(_module(features, classes)))
    module.verify()
    host = {"cpu": binding.get_host_cpu_name(), "features": binding.get_host_cpu_features().flatten()}
    machine = binding.Target.from_default_triple().create_target_machine(**host, opt=3)
    passes = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(module, passes)
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    _ENGINES.append(engine)
    pointer = ctypes.c_void_p
    prototype = ctypes.CFUNCTYPE(None, pointer, ctypes.c_int64, pointer, pointer, pointer, pointer)
    return prototype(engine.get_function_address(_NAME))


def _module(features: int, classes: int) -> ir.Module:
    module = ir.Module()
    arguments = [_BYTE.as_pointer(), _LONG, _SHORT.as_pointer(), *[_FLOAT.as_pointer()] * 3]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), _NAME)
    sum_up = ir.Function(module, ir.FunctionType(_INT, [_SUM]), _SUM_UP)
    samples, count, weights, scales, bias, found = function.args
    to = ir.IRBuilder(function.append_basic_block())
    with _loop(to, count) as (row, _):
        sample = to.gep(samples, [to.mul(row, _LONG(features))])
        for first in range(0, classes, _GROUP):
            size = min(_GROUP, classes - first)
            steps = -(-features // _PRODUCTS)
            group = to.gep(weights, [_LONG(first * steps * _PRODUCTS)])
            for index, sums in enumerate(_products(to, sample, group, features, size), first):
                at = [_LONG(index)]
                total = to.sitofp(to.call(sum_up, [sums]), _FLOAT)
                logit = to.fadd(to.fmul(total, to.load(to.gep(scales, at))), to.load(to.gep(bias, at)))
                to.store(logit, to.gep(found, [to.add(to.mul(count, _LONG(index)), row)]))
    to.ret_void()
    return module


def _products(to: ir.IRBuilder, sample: Any, weights: Any, features: int, classes: int) -> list[Any]:
    """For each class a vector of sums that add up to the whole."""
    whole, rest = divmod(features, _PRODUCTS)
    sums = [ir.Constant(_SUM, None)] * classes
    if whole:
        with _loop(to, _LONG(whole), sums) as (step, carried):
            some = to.gep(sample, [to.mul(step, _LONG(_PRODUCTS))])
            line = to.gep(weights, [to.mul(step, _LONG(classes * _PRODUCTS))])
            carried[:] = sums = _step(to, some, line, carried, _PRODUCTS)
    if rest:
        some = to.gep(sample, [_LONG(whole * _PRODUCTS)])
        line = to.gep(weights, [_LONG(whole * classes * _PRODUCTS)])
        sums = _step(to, some, line, sums, rest)
    return sums


def _step(to: ir.IRBuilder, some: Any, line: Any, sums: Sequence[Any], size: int) -> list[Any]:
    """``size`` values of the sample, no byte more, with as many weights of each class."""
    kind = ir.VectorType(_BYTE, size)
    values = to.load(to.bitcast(some, kind.as_pointer()), align=1)
    if size < _PRODUCTS:
        filled = ir.Constant(ir.VectorType(_INT, _PRODUCTS), [min(place, size) for place in range(_PRODUCTS)])
        values = to.shuffle_vector(values, ir.Constant(kind, None), filled)
    wide, narrow = ir.VectorType(_INT, _PRODUCTS), ir.VectorType(_SHORT, _PRODUCTS)
    values = to.zext(values, wide)
    even, odd = (ir.Constant(_SUM, list(range(start, _PRODUCTS, 2))) for start in (0, 1))
    added = []
    for index, sum_ in enumerate(sums):
        own = to.bitcast(to.gep(line, [_LONG(index * _PRODUCTS)]), narrow.as_pointer())
        products = to.mul(values, to.sext(to.load(own, align=2), wide))
        pairs = to.add(to.shuffle_vector(products, products, even), to.shuffle_vector(products, products, odd))
        added.append(to.add(sum_, pairs))
    return added


@contextmanager
def _loop(to: ir.IRBuilder, count: Any, initial: Sequence[Any] = ()) -> Iterator[tuple[Any, list[Any]]]:
    """The index, from 0 to below ``count``, which is 1 at least, and what is carried from pass to pass, to be replaced
    in place."""
    before, body, behind = to.block, to.append_basic_block(), to.append_basic_block()
    to.branch(body)
    to.position_at_end(body)
    index = to.phi(_LONG)
    index.add_incoming(_LONG(0), before)
    phis = [to.phi(value.type) for value in initial]
    for phi, value in zip(phis, initial, strict=True):
        phi.add_incoming(value, before)
    carried = list(phis)
    yield index, carried
    following = to.add(index, _LONG(1))
    index.add_incoming(following, to.block)
    for phi, value in zip(phis, carried, strict=True):
        phi.add_incoming(value, to.block)
    to.cbranch(to.icmp_unsigned("<", following, count), body, behind)
    to.position_at_end(behind)
