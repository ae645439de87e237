"""Generate the integer kernel's machine code with LLVM.

A block of samples is multiplied by the weights, its partial sums are summed together, and its scores are bounded, all
while it lies in the processor's first cache. ONNX Runtime's integer product, made for many columns, takes four times as
long for a model's ten.

This module needs llvmlite; :mod:`scorer_svc.prefilter.integer_kernel` imports it when a kernel is requested.
"""

from __future__ import annotations

import ctypes
from typing import Any

from labelloop.runtime.machine_code import LONG, Processor, compile_functions, emit_object, loop
from llvmlite import ir

from scorer_svc.prefilter.instructions import instructions
from scorer_svc.prefilter.integer_kernel import Code, Kernel
from scorer_svc.prefilter.layout import Layout
from scorer_svc.prefilter.product_code import Products, transposed_sums
from scorer_svc.prefilter.score_code import score_functions
from scorer_svc.prefilter.vectors import BYTE, FLOAT, INT, Floats, least_index, spread, vector_at

_AHEAD_SAMPLES = 8  # of what is multiplied, read into the first cache while there is time


def compiled(features: int, classes: int, processor: Processor) -> list[Kernel]:
    """Compile kernels of int8 weights, if the processor has instructions for them, and of int16 weights."""
    return [compiled_kernel(layout, processor) for layout in layouts(features, classes, processor)]


def layouts(features: int, classes: int, processor: Processor) -> list[Layout]:
    """Return the layouts of the kernels for a processor."""
    return [Layout(features, classes, each) for each in instructions(processor.triple, processor.features)]


def object_file(layout: Layout, processor: Processor) -> bytes:
    """Emit an object file that defines ``lowest`` for ``processor``, which may be of another architecture."""
    return emit_object(_module(layout), processor)


def compiled_kernel(layout: Layout, processor: Processor) -> Kernel:
    """Compile a kernel that this process can call. Other threads can run during a call."""
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    prototype = ctypes.CFUNCTYPE(None, pointer, pointer, number, *[pointer] * 5, number, pointer, pointer)
    code: Code
    (code,) = compile_functions(_module(layout), processor, lowest=prototype)
    return Kernel(layout, code)


def _module(layout: Layout) -> ir.Module:
    """Emit ``lowest``; :data:`scorer_svc.prefilter.integer_kernel.Code` says what it takes."""
    module = ir.Module()
    scores = score_functions(module, layout)
    weight, floats = ir.IntType(layout.instructions.weight_bits).as_pointer(), FLOAT.as_pointer()
    kinds = [
        BYTE.as_pointer(),
        LONG.as_pointer(),
        LONG,
        weight,
        INT.as_pointer(),
        *[floats] * 3,
        LONG,
        INT.as_pointer(),
        floats,
    ]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), "lowest")
    samples, positions, count, weights, shifts, scales, bias, numbers, strategy, scratch, found = function.args
    to = ir.IRBuilder(function.append_basic_block())
    blocks = to.udiv(to.add(count, LONG(layout.block - 1)), LONG(layout.block))
    logits = to.bitcast(to.gep(scratch, [LONG(layout.group * layout.block**2)]), floats)
    with loop(to, blocks) as (block, _):
        first = to.mul(block, LONG(layout.block))
        _logits(to, layout, (samples, positions, first, count), weights, (shifts, scales, bias), scratch, logits)
        done, copied = to.append_basic_block(), to.append_basic_block()
        choice = to.switch(strategy, copied)
        for number, code in scores.items():
            chosen = to.append_basic_block()
            choice.add_case(LONG(number), chosen)
            to.position_at_end(chosen)
            to.call(code, [logits, numbers, to.gep(found, [first])])
            to.branch(done)
        to.position_at_end(copied)
        _copy(to, layout, logits, to.gep(found, [to.mul(first, LONG(layout.rows))]))
        to.branch(done)
        to.position_at_end(done)
    to.ret_void()
    return module


def _copy(to: ir.IRBuilder, layout: Layout, logits: Any, found: Any) -> None:
    floats = Floats(to, layout.block)
    with loop(to, LONG(layout.rows)) as (row, _):
        place = to.mul(row, LONG(layout.block))
        floats.store(floats.load(logits, place), found, place)


def _logits(
    to: ir.IRBuilder,
    layout: Layout,
    samples: tuple[Any, Any, Any, Any],
    weights: Any,
    linear: tuple[Any, Any, Any],
    scratch: Any,
    logits: Any,
) -> None:
    """Emit logits ``[rows, block]`` of the samples of a block, the last one repeated where there are no more."""
    whole, rest = divmod(layout.rows, layout.group)
    length = layout.steps * layout.step

    def group(first_row: Any, rows: int) -> None:
        own = to.gep(weights, [to.mul(first_row, LONG(length))])
        _partial_sums(to, layout, samples, own, rows, scratch)
        with loop(to, LONG(rows)) as (row, _):
            _logit(to, layout, to.add(first_row, row), row, linear, scratch, logits)

    if whole > 1:
        with loop(to, LONG(whole)) as (index, _):
            group(to.mul(index, LONG(layout.group)), layout.group)
    else:
        group(LONG(0), layout.group)
    if rest:
        group(LONG(whole * layout.group), rest)


def _partial_sums(
    to: ir.IRBuilder, layout: Layout, samples: tuple[Any, Any, Any, Any], weights: Any, rows: int, scratch: Any
) -> None:
    """Emit vectors of partial sums ``[rows, block, lanes]`` into ``scratch``."""
    at_once = layout.instructions.samples_at_once
    kind = ir.VectorType(INT, layout.instructions.lanes)
    products = Products(to, layout)
    with loop(to, LONG(layout.block // at_once)) as (index, _):
        places = [to.add(to.mul(index, LONG(at_once)), LONG(one)) for one in range(at_once)]
        starts, ahead = (
            [_sample(to, layout, samples, to.add(place, LONG(further))) for place in places]
            for further in (0, _AHEAD_SAMPLES)
        )
        for place, sums in zip(places, products.of(starts, ahead, weights, rows), strict=True):
            for row, vector in enumerate(sums):
                at = to.mul(to.add(place, LONG(row * layout.block)), LONG(layout.instructions.lanes))
                to.store(vector, vector_at(to, scratch, at, kind), align=layout.instructions.lanes * 4)


def _sample(to: ir.IRBuilder, layout: Layout, samples: tuple[Any, Any, Any, Any], index: Any) -> Any:
    """Return the address of sample ``index`` of a block; of the last one where there are no more."""
    data, positions, first, count = samples
    present = least_index(to, to.add(first, index), to.sub(count, LONG(1)))
    return to.gep(data, [to.mul(to.load(to.gep(positions, [present])), LONG(layout.features))])


def _logit(
    to: ir.IRBuilder, layout: Layout, row: Any, at: Any, linear: tuple[Any, Any, Any], scratch: Any, logits: Any
) -> None:
    """Emit ``scale * (sum + shift) + bias`` for a row and all samples of a block."""
    lanes = layout.instructions.lanes
    kind = ir.VectorType(INT, lanes)
    starts = [to.add(to.mul(at, LONG(layout.block * lanes)), LONG(one * lanes)) for one in range(layout.block)]
    vectors = [to.load(vector_at(to, scratch, start, kind), align=lanes * 4) for start in starts]
    shift, scale, bias = (spread(to, to.load(to.gep(values, [row])), lanes) for values in linear)
    floats = Floats(to, lanes)
    total = to.sitofp(to.add(transposed_sums(to, vectors), shift), floats.kind)
    floats.store(to.fadd(to.fmul(total, scale), bias), logits, to.mul(row, LONG(layout.block)))
