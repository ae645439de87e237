"""Generate machine code for the steps of the published fit with LLVM.

Three functions share the layout of :mod:`trainer_svc.model.fused_step`: ``gradient`` reads each sample once a step, and
forms the probabilities of a few samples while they lie in the processor's cache; ``adam`` moves the weights;
``correct`` counts. Sums have one order on one processor, whatever the number of samples before and after.

This module needs llvmlite; :mod:`trainer_svc.model.fused_step` imports it when a fit is requested.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from labelloop.runtime.machine_code import LONG, Processor, compile_functions, loop
from llvmlite import ir

from trainer_svc.model.fused_step import CLASSES_MAX, LANES, TILE, width

_INT, _FLOAT = ir.IntType(32), ir.FloatType()
_VECTOR, _WHOLE = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)
_FLOATS, _INTS = _FLOAT.as_pointer(), _INT.as_pointer()
_FUSED, _ANY_ORDER = ("contract",), ("reassoc",)
_LEAST = -87.0  # exp of less is no normal float32
_LOG2_E, _LN_2_HIGH, _LN_2_LOW = 1.44269504, 0.693359375, -2.12194440e-4
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)


def step_functions(features: int, classes: int, processor: Processor) -> list[Callable[..., Any]]:
    """Compile ``gradient``, ``adam`` and ``correct`` for a model of this size, of 1 to ``CLASSES_MAX`` classes."""
    assert 1 <= classes <= CLASSES_MAX
    module, (pointer, long, single) = ir.Module(), (ctypes.c_void_p, ctypes.c_int64, ctypes.c_float)
    model = _Model(features, classes)
    _gradient(module, model)
    _adam(module)
    _correct(module, model)
    return compile_functions(
        module,
        processor,
        gradient=ctypes.CFUNCTYPE(None, pointer, long, pointer, long, pointer, pointer),
        adam=ctypes.CFUNCTYPE(None, pointer, pointer, pointer, pointer, long, single, single),
        correct=ctypes.CFUNCTYPE(long, pointer, long, pointer, long, pointer),
    )


@dataclass(frozen=True)
class _Model:
    """Sizes of a model."""

    features: int
    classes: int

    @property
    def width(self) -> int:
        return width(self.features)

    @property
    def blocks(self) -> tuple[int, int]:
        """Vectors of ``LANES`` values of a sample, and the values that are left."""
        return divmod(self.features, LANES)


def _gradient(module: ir.Module, model: _Model) -> None:
    """Emit ``gradient(samples, stride, labels, count, weights, gradient)``: the sum over all samples.

    ``stride`` is the distance of two samples in values.
    """
    to, (samples, stride, labels, count, weights, gradient) = _begin(
        module, "gradient", ir.VoidType(), [_FLOATS, LONG, _INTS, LONG, _FLOATS, _FLOATS]
    )
    errors = to.alloca(_VECTOR, TILE)
    errors.align = 64
    bias = model.classes * model.width
    with loop(to, LONG(bias // LANES + 1)) as (index, _):
        to.store(_all(0.0), _at(to, gradient, to.mul(index, LONG(LANES))), align=64)
    with loop(to, to.udiv(to.add(count, LONG(TILE - 1)), LONG(TILE))) as (tile, _):
        first = to.mul(tile, LONG(TILE))
        rows = _least(to, LONG(TILE), to.sub(count, first))
        some = to.gep(samples, [to.mul(first, stride)])
        with loop(to, to.udiv(to.add(rows, LONG(1)), LONG(2))) as (pair, _):
            pair_rows = _pair(to, pair, rows)
            starts = [to.gep(some, [to.mul(row, stride)]) for row in pair_rows]
            for row, logits in zip(pair_rows, _logits(to, starts, weights, model), strict=True):
                label = to.load(to.gep(labels, [to.add(first, row)]))
                error = _error(to, module, logits, label, model.classes)
                to.store(error, to.gep(errors, [row]), align=64)
        place = _at(to, gradient, LONG(bias))
        with loop(to, rows, [to.load(place, align=64)]) as (row, total):
            total[0] = to.fadd(total[0], to.load(to.gep(errors, [row]), align=64))
        to.store(total[0], place, align=64)
        _add_products(to, some, stride, rows, errors, gradient, model)
    to.ret_void()


def _add_products(
    to: ir.IRBuilder, some: Any, stride: Any, rows: Any, errors: Any, gradient: Any, model: _Model
) -> None:
    """Add the products of a tile's samples with their errors to the gradient, a vector of features at a time."""
    single = to.bitcast(errors, _FLOATS)

    def add(column: Any, size: int) -> None:
        places = [_at(to, gradient, to.add(LONG(index * model.width), column)) for index in range(model.classes)]
        with loop(to, rows, [to.load(place, align=64) for place in places]) as (row, sums):
            values = _values(to, to.gep(some, [to.add(to.mul(row, stride), column)]), size)
            for index in range(model.classes):
                error = to.load(to.gep(single, [to.add(to.mul(row, LONG(LANES)), LONG(index))]))
                sums[index] = _plus(to, sums[index], values, _spread(to, error))
        for place, total in zip(places, sums, strict=True):
            to.store(total, place, align=64)

    whole, rest = model.blocks
    if whole:
        with loop(to, LONG(whole)) as (block, _):
            add(to.mul(block, LONG(LANES)), LANES)
    if rest:
        add(LONG(whole * LANES), rest)


def _error(to: ir.IRBuilder, module: ir.Module, logits: Any, label: Any, classes: int) -> Any:
    """Return softmax of ``logits`` less 1 at the label; unused lanes are 0."""
    used = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [index < classes for index in range(LANES)])
    largest = to.call(_intrinsic(module, "llvm.vector.reduce.fmax", _FLOAT, [_VECTOR]), [logits])
    raised = to.select(used, _exp(to, module, to.fsub(logits, _spread(to, largest))), _all(0.0))
    quotients = to.fdiv(raised, _spread(to, _sum(to, raised)))
    places = ir.Constant(_WHOLE, list(range(LANES)))
    own = to.icmp_signed("==", places, _spread(to, label))
    return to.fsub(quotients, to.select(own, _all(1.0), _all(0.0)))


def _exp(to: ir.IRBuilder, module: ir.Module, values: Any) -> Any:
    """Return exp of values of at most 0, to about 1e-7 of each.

    Cephes' expf (Moshier 1989): 2 to a whole power times a polynomial of what is left.
    """
    values = to.call(_intrinsic(module, "llvm.maxnum", _VECTOR, [_VECTOR, _VECTOR]), [values, _all(_LEAST)])
    power = to.call(_intrinsic(module, "llvm.rint", _VECTOR, [_VECTOR]), [to.fmul(values, _all(_LOG2_E))])
    rest = _plus(to, _plus(to, values, power, _all(-_LN_2_HIGH)), power, _all(-_LN_2_LOW))
    sums = _all(_EXP[0])
    for factor in _EXP[1:]:
        sums = _plus(to, _all(factor), sums, rest)
    sums = _plus(to, to.fadd(rest, _all(1.0)), sums, to.fmul(rest, rest))
    bits = to.shl(to.add(to.fptosi(power, _WHOLE), _all(127, _WHOLE)), _all(23, _WHOLE))
    return to.fmul(sums, to.bitcast(bits, _VECTOR))


def _pair(to: ir.IRBuilder, pair: Any, rows: Any) -> tuple[Any, Any]:
    """Return two rows; the last one twice where it has no other."""
    row = to.mul(pair, LONG(2))
    return row, _least(to, to.add(row, LONG(1)), to.sub(rows, LONG(1)))


def _logits(to: ir.IRBuilder, starts: Sequence[Any], weights: Any, model: _Model) -> list[Any]:
    """Return the logits of the samples at ``starts``, each a vector whose unused lanes are very small."""
    sums = [_all(0.0)] * (len(starts) * model.classes)

    def add(column: Any, size: int) -> None:
        values = [_values(to, to.gep(start, [column]), size) for start in starts]
        for index in range(model.classes):
            factors = to.load(_at(to, weights, to.add(LONG(index * model.width), column)), align=64)
            for one, value in enumerate(values):
                place = one * model.classes + index
                sums[place] = _plus(to, sums[place], value, factors)

    whole, rest = model.blocks
    if whole:
        with loop(to, LONG(whole), sums) as (block, carried):
            sums = carried
            add(to.mul(block, LONG(LANES)), LANES)
    if rest:
        add(LONG(whole * LANES), rest)
    bias = to.load(_at(to, weights, LONG(model.classes * model.width)), align=64)
    found = []
    for one in range(len(starts)):
        products = ir.Constant(_VECTOR, [0.0 if index < model.classes else -1e30 for index in range(LANES)])
        for index in range(model.classes):
            products = to.insert_element(products, _sum(to, sums[one * model.classes + index]), _INT(index))
        found.append(to.fadd(products, bias))
    return found


def _values(to: ir.IRBuilder, place: Any, size: int) -> Any:
    """Read ``size`` values of a sample, and not a byte more; the lanes behind are 0."""
    few = ir.VectorType(_FLOAT, size)
    values = to.load(to.bitcast(place, few.as_pointer()), align=4)
    if size == LANES:
        return values
    filled = ir.Constant(_WHOLE, [min(lane, size) for lane in range(LANES)])
    return to.shuffle_vector(values, ir.Constant(few, None), filled)


def _adam(module: ir.Module) -> None:
    """Emit ``adam(weights, first, second, gradient, vectors, share, rate)``: a step with ``share`` of the gradient."""
    to, (weights, first, second, gradient, vectors, share, rate) = _begin(
        module, "adam", ir.VoidType(), [*[_FLOATS] * 4, LONG, _FLOAT, _FLOAT]
    )
    root = _intrinsic(module, "llvm.sqrt", _VECTOR, [_VECTOR])
    parts, slower = _spread(to, share), _spread(to, to.fneg(rate))
    with loop(to, vectors) as (index, _):
        places = [_at(to, each, to.mul(index, LONG(LANES))) for each in (weights, first, second, gradient)]
        now, mean, square, slope = (to.load(place, align=64) for place in places)
        slope = to.fmul(slope, parts)
        mean = _plus(to, to.fmul(slope, _all(1 - 0.9)), mean, _all(0.9))
        square = _plus(to, to.fmul(to.fmul(slope, slope), _all(1 - 0.999)), square, _all(0.999))
        moved = to.fdiv(mean, to.fadd(to.call(root, [square]), _all(1e-8)))
        for place, value in zip(places, (_plus(to, now, moved, slower), mean, square), strict=False):
            to.store(value, place, align=64)
    to.ret_void()


def _correct(module: ir.Module, model: _Model) -> None:
    """Emit ``correct(samples, stride, labels, count, weights)``: how many samples get their label.

    Of equal logits, that of the first class is the largest.
    """
    to, (samples, stride, labels, count, weights) = _begin(
        module, "correct", LONG, [_FLOATS, LONG, _INTS, LONG, _FLOATS]
    )
    with loop(to, to.udiv(to.add(count, LONG(1)), LONG(2)), [LONG(0)]) as (pair, total):
        rows = _pair(to, pair, count)
        starts = [to.gep(samples, [to.mul(row, stride)]) for row in rows]
        found = [
            to.zext(to.icmp_signed("==", _largest(to, logits, model.classes), to.load(to.gep(labels, [row]))), LONG)
            for row, logits in zip(rows, _logits(to, starts, weights, model), strict=True)
        ]
        alone = to.icmp_signed("==", rows[0], rows[1])
        total[0] = to.add(total[0], to.add(found[0], to.select(alone, LONG(0), found[1])))
    to.ret(total[0])


def _largest(to: ir.IRBuilder, logits: Any, classes: int) -> Any:
    best, place = to.extract_element(logits, _INT(0)), _INT(0)
    for index in range(1, classes):
        value = to.extract_element(logits, _INT(index))
        more = to.fcmp_ordered(">", value, best)
        best, place = to.select(more, value, best), to.select(more, _INT(index), place)
    return place


def _begin(module: ir.Module, name: str, result: Any, arguments: list[Any]) -> tuple[ir.IRBuilder, Any]:
    function = ir.Function(module, ir.FunctionType(result, arguments), name)
    for argument in function.args:
        if argument.type.is_pointer:
            argument.add_attribute("noalias")
    return ir.IRBuilder(function.append_basic_block()), function.args


def _intrinsic(module: ir.Module, name: str, result: Any, arguments: list[Any]) -> ir.Function:
    full = f"{name}.v{LANES}f32"
    if full in module.globals:
        return module.globals[full]
    return ir.Function(module, ir.FunctionType(result, arguments), full)


def _at(to: ir.IRBuilder, values: Any, place: Any) -> Any:
    return to.bitcast(to.gep(values, [place]), _VECTOR.as_pointer())


def _all(value: float, kind: Any = _VECTOR) -> Any:
    return ir.Constant(kind, [value] * LANES)


def _spread(to: ir.IRBuilder, value: Any) -> Any:
    kind = ir.VectorType(value.type, LANES)
    single = to.insert_element(ir.Constant(kind, ir.Undefined), value, _INT(0))
    return to.shuffle_vector(single, ir.Constant(kind, ir.Undefined), ir.Constant(_WHOLE, [0] * LANES))


def _plus(to: ir.IRBuilder, sum_: Any, one: Any, other: Any) -> Any:
    """Return the sum plus a product, by one instruction where the processor has one."""
    return to.fadd(sum_, to.fmul(one, other, flags=_FUSED), flags=_FUSED)


def _least(to: ir.IRBuilder, one: Any, other: Any) -> Any:
    return to.select(to.icmp_signed("<", one, other), one, other)


def _sum(to: ir.IRBuilder, values: Any) -> Any:
    """Return the sum of the lanes, in an order of the processor's."""
    total = _intrinsic(to.module, "llvm.vector.reduce.fadd", _FLOAT, [_FLOAT, _VECTOR])
    return to.call(total, [_FLOAT(0.0), values], fastmath=_ANY_ORDER)
