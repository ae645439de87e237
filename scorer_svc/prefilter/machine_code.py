"""Generate the integer kernel's machine code with LLVM.

The products are written so that LLVM uses what the processor has: an instruction that multiplies 32 pairs and adds
neighbours (vpdpwssd, vpmaddwd) if there is one, multiplications and additions otherwise. ONNX Runtime's integer
product, made for many columns, takes four times as long for a model's ten.

This module needs llvmlite; :mod:`scorer_svc.prefilter.integer_kernel` imports it when a kernel is requested.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import binding, ir

from scorer_svc.prefilter.integer_kernel import GROUP, PRODUCTS, Code

_SUMS = PRODUCTS // 2
_BYTE, _SHORT, _INT, _LONG, _FLOAT = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
_SUM = ir.VectorType(_INT, _SUMS)
_SUM_UP = f"llvm.vector.reduce.add.v{_SUMS}i32"
_NAME = "logits"


@dataclass(frozen=True)
class Processor:
    """The processor that LLVM makes code for.

    Attributes:
        triple: target triple.
        cpu: LLVM's name for the processor.
        features: such as ``+avx2,-avx512f``, on top of what that processor has.
    """

    triple: str
    cpu: str = ""
    features: str = ""


def this_processor() -> Processor:
    """Return the processor that this process runs on, with the features that the operating system lets it use."""
    features = binding.get_host_cpu_features().flatten()
    return Processor(binding.get_default_triple(), binding.get_host_cpu_name(), features)


_ENGINES: list[Any] = []  # each owns machine code, which must outlive its last call


def compiled(features: int, classes: int, processor: Processor) -> Code:
    """Compile code for ``processor`` that this process can call. Other threads can run during a call."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    module, machine = _optimised(features, classes, processor)
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    _ENGINES.append(engine)
    pointer = ctypes.c_void_p
    prototype = ctypes.CFUNCTYPE(None, pointer, ctypes.c_int64, pointer, pointer, pointer, pointer)
    return prototype(engine.get_function_address(_NAME))


def object_file(features: int, classes: int, processor: Processor) -> bytes:
    """Emit an object file that defines ``logits`` for ``processor``, which may be of another architecture."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    module, machine = _optimised(features, classes, processor)
    emitted: bytes = machine.emit_object(module)
    return emitted


def _optimised(features: int, classes: int, processor: Processor) -> tuple[Any, Any]:
    """Return a verified module and the target machine that it was optimised for."""
    module = binding.parse_assembly(str(_module(features, classes)))
    module.verify()
    target = binding.Target.from_triple(processor.triple)
    machine = target.create_target_machine(cpu=processor.cpu, features=processor.features, opt=3)
    passes = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(module, passes)
    return module, machine


def _module(features: int, classes: int) -> ir.Module:
    module = ir.Module()
    arguments = [_BYTE.as_pointer(), _LONG, _SHORT.as_pointer(), *[_FLOAT.as_pointer()] * 3]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), _NAME)
    sum_up = ir.Function(module, ir.FunctionType(_INT, [_SUM]), _SUM_UP)
    samples, count, weights, scales, bias, found = function.args
    to = ir.IRBuilder(function.append_basic_block())
    with _loop(to, count) as (row, _):
        sample = to.gep(samples, [to.mul(row, _LONG(features))])
        for first in range(0, classes, GROUP):
            size = min(GROUP, classes - first)
            steps = -(-features // PRODUCTS)
            group = to.gep(weights, [_LONG(first * steps * PRODUCTS)])
            for index, sums in enumerate(_products(to, sample, group, features, size), first):
                at = [_LONG(index)]
                total = to.sitofp(to.call(sum_up, [sums]), _FLOAT)
                logit = to.fadd(to.fmul(total, to.load(to.gep(scales, at))), to.load(to.gep(bias, at)))
                to.store(logit, to.gep(found, [to.add(to.mul(count, _LONG(index)), row)]))
    to.ret_void()
    return module


def _products(to: ir.IRBuilder, sample: Any, weights: Any, features: int, classes: int) -> list[Any]:
    """Emit a vector of partial sums for each class; its elements add up to the product."""
    whole, rest = divmod(features, PRODUCTS)
    sums = [ir.Constant(_SUM, None)] * classes
    if whole:
        with _loop(to, _LONG(whole), sums) as (step, carried):
            some = to.gep(sample, [to.mul(step, _LONG(PRODUCTS))])
            line = to.gep(weights, [to.mul(step, _LONG(classes * PRODUCTS))])
            carried[:] = sums = _step(to, some, line, carried, PRODUCTS)
    if rest:
        some = to.gep(sample, [_LONG(whole * PRODUCTS)])
        line = to.gep(weights, [_LONG(whole * classes * PRODUCTS)])
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
        own = to.bitcast(to.gep(line, [_LONG(index * PRODUCTS)]), narrow.as_pointer())
        products = to.mul(values, to.sext(to.load(own, align=2), wide))
        pairs = to.add(to.shuffle_vector(products, products, even), to.shuffle_vector(products, products, odd))
        added.append(to.add(sum_, pairs))
    return added


@contextmanager
def _loop(to: ir.IRBuilder, count: Any, initial: Sequence[Any] = ()) -> Iterator[tuple[Any, list[Any]]]:
    """Emit a loop, and yield its index and the values carried from pass to pass, to be replaced in place.

    The index runs from 0 to below ``count``, which is at least 1.
    """
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
