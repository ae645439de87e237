"""Generate the integer kernel's machine code with LLVM.

The products are written so that LLVM uses what the processor has: an instruction that multiplies 32 pairs and adds
neighbours (vpdpwssd, vpmaddwd) if there is one, multiplications and additions otherwise. ONNX Runtime's integer
product, made for many columns, takes four times as long for a model's ten.

This module needs llvmlite; :mod:`scorer_svc.prefilter.integer_kernel` imports it when a kernel is requested.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from labelloop.runtime.machine_code import LONG, Processor, compile_functions, emit_object, loop
from llvmlite import ir

from scorer_svc.prefilter.integer_kernel import GROUP, PRODUCTS, Code

_SUMS = PRODUCTS // 2
_BYTE, _SHORT, _INT, _FLOAT = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.FloatType()
_SUM = ir.VectorType(_INT, _SUMS)
_SUM_UP = f"llvm.vector.reduce.add.v{_SUMS}i32"


def compiled(features: int, classes: int, processor: Processor) -> Code:
    """Compile code for ``processor`` that this process can call. Other threads can run during a call."""
    pointer = ctypes.c_void_p
    prototype = ctypes.CFUNCTYPE(None, pointer, ctypes.c_int64, pointer, pointer, pointer, pointer)
    code: Code
    (code,) = compile_functions(_module(features, classes), processor, logits=prototype)
    return code


def object_file(features: int, classes: int, processor: Processor) -> bytes:
    """Emit an object file that defines ``logits`` for ``processor``, which may be of another architecture."""
    return emit_object(_module(features, classes), processor)


def _module(features: int, classes: int) -> ir.Module:
    module = ir.Module()
    arguments = [_BYTE.as_pointer(), LONG, _SHORT.as_pointer(), *[_FLOAT.as_pointer()] * 3]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), "logits")
    sum_up = ir.Function(module, ir.FunctionType(_INT, [_SUM]), _SUM_UP)
    samples, count, weights, scales, bias, found = function.args
    to = ir.IRBuilder(function.append_basic_block())
    with loop(to, count) as (row, _):
        sample = to.gep(samples, [to.mul(row, LONG(features))])
        for first in range(0, classes, GROUP):
            size = min(GROUP, classes - first)
            steps = -(-features // PRODUCTS)
            group = to.gep(weights, [LONG(first * steps * PRODUCTS)])
            for index, sums in enumerate(_products(to, sample, group, features, size), first):
                at = [LONG(index)]
                total = to.sitofp(to.call(sum_up, [sums]), _FLOAT)
                logit = to.fadd(to.fmul(total, to.load(to.gep(scales, at))), to.load(to.gep(bias, at)))
                to.store(logit, to.gep(found, [to.add(to.mul(count, LONG(index)), row)]))
    to.ret_void()
    return module


def _products(to: ir.IRBuilder, sample: Any, weights: Any, features: int, classes: int) -> list[Any]:
    """Emit a vector of partial sums for each class; its elements add up to the product."""
    whole, rest = divmod(features, PRODUCTS)
    sums = [ir.Constant(_SUM, None)] * classes
    if whole:
        with loop(to, LONG(whole), sums) as (step, carried):
            some = to.gep(sample, [to.mul(step, LONG(PRODUCTS))])
            line = to.gep(weights, [to.mul(step, LONG(classes * PRODUCTS))])
            carried[:] = sums = _step(to, some, line, carried, PRODUCTS)
    if rest:
        some = to.gep(sample, [LONG(whole * PRODUCTS)])
        line = to.gep(weights, [LONG(whole * classes * PRODUCTS)])
        sums = _step(to, some, line, sums, rest)
    return sums


def _step(to: ir.IRBuilder, some: Any, line: Any, sums: Sequence[Any], size: int) -> list[Any]:
    """Multiply ``size`` values of the sample, without reading a byte more, by as many weights of each class."""
    kind = ir.VectorType(_BYTE, size)
    values = to.load(to.bitcast(some, kind.as_pointer()), align=1)
    if size < PRODUCTS:
        filled = ir.Constant(ir.VectorType(_INT, PRODUCTS), [min(place, size) for place in range(PRODUCTS)])
        values = to.shuffle_vector(values, ir.Constant(kind, None), filled)
    wide, narrow = ir.VectorType(_INT, PRODUCTS), ir.VectorType(_SHORT, PRODUCTS)
    values = to.zext(values, wide)
    even, odd = (ir.Constant(_SUM, list(range(start, PRODUCTS, 2))) for start in (0, 1))
    added = []
    for index, sum_ in enumerate(sums):
        own = to.bitcast(to.gep(line, [LONG(index * PRODUCTS)]), narrow.as_pointer())
        products = to.mul(values, to.sext(to.load(own, align=2), wide))
        pairs = to.add(to.shuffle_vector(products, products, even), to.shuffle_vector(products, products, odd))
        added.append(to.add(sum_, pairs))
    return added
