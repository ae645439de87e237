"""Generate machine code that classifies single samples by softmax regression as ONNX Runtime does, bit for bit.

ONNX Runtime's answer is the reference, so the order of all additions is its order: products are summed by fused
multiply-adds in blocks of 256 features, each from zero, and a logit is the bias plus one block after the other. The
probabilities are its polynomial for the exponential, of the same degree and coefficients, their sum over sixteen lanes
that are folded to eight and then added in pairs, and products with the reciprocal of that sum. Whether all this holds
for the processor and version at hand is checked before the code is used: see :mod:`scorer_svc.row_kernel.kernel`.

This module needs llvmlite.
"""

from __future__ import annotations

import ctypes
from typing import Any

from labelloop.runtime.machine_code import LONG, Processor, compile_functions, emit_object, loop
from llvmlite import ir

from scorer_svc.row_kernel.layout import LANES, Code, groups_of

_BLOCK = 256  # features, whose products are summed from zero
_BLOCKS_AT_ONCE = 4  # sums that do not wait for each other
_LOGIT_SPAN_MAX = 87.0  # below the largest logit by more, exponentials are no normal numbers

_LOG2_E, _ROUNDING = 1.44269504088896341, 12_582_912.0  # the latter is 1.5 * 2**23: it rounds to a whole number
_LN2_HIGH, _LN2_LOW = -6.93145752e-1, -1.42860677e-6
_POLYNOMIAL = (
    *("0x1.694p-10", "0x1.125edcp-7", "0x1.555b5ap-5", "0x1.55545p-3", "0x1.fffff6p-2"),
    *("0x1p+0", "0x1p+0"),
)
_EXPONENT_BIT, _ONE_BITS = 23, 0x3F80_0000

_BYTE, _INT, _BIT, _FLOAT = ir.IntType(8), ir.IntType(32), ir.IntType(1), ir.FloatType()
_LINE, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)
_MASK = ir.IntType(LANES)


def compiled(features: int, classes: int, dtype: str, processor: Processor) -> Code:
    """Compile code for ``processor`` that this process can call. A call keeps Python's lock: it takes microseconds."""
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    prototype = ctypes.PYFUNCTYPE(number, pointer, number, pointer, pointer, pointer, pointer)
    code: Code
    (code,) = compile_functions(_module(features, classes, dtype), processor, classify=prototype)
    return code


def object_file(features: int, classes: int, dtype: str, processor: Processor) -> bytes:
    """Emit an object file that defines ``classify`` for ``processor``, which may be of another architecture."""
    return emit_object(_module(features, classes, dtype), processor)


def _module(features: int, classes: int, dtype: str) -> ir.Module:
    module, value = ir.Module(), _BYTE if dtype == "uint8" else _FLOAT
    floats = _FLOAT.as_pointer()
    arguments = [value.as_pointer(), LONG, floats, floats, _BYTE.as_pointer(), floats]
    function = ir.Function(module, ir.FunctionType(LONG, arguments), "classify")
    samples, count, weights, bias, predicted, confidence = function.args
    to = ir.IRBuilder(function.append_basic_block())
    emit = _Row(to, module, features, classes)
    with loop(to, count, [LONG(0)]) as (row, carried):
        sample = to.gep(samples, [to.mul(row, LONG(features))])
        logits = [
            emit.logits(
                sample,
                to.gep(weights, [LONG(group * features * LANES)]),
                emit.line(bias, LONG(group * LANES)),
            )
            for group in range(groups_of(classes))
        ]
        exponentials, known = emit.exponentials(logits)
        place, largest = emit.best(exponentials)
        to.store(to.trunc(place, _BYTE), to.gep(predicted, [row]))
        to.store(largest, to.gep(confidence, [row]))
        carried[0] = to.add(carried[0], to.zext(known, LONG))
    to.ret(carried[0])
    return module


class _Row:
    """Emits the steps for one sample."""

    def __init__(self, to: ir.IRBuilder, module: ir.Module, features: int, classes: int) -> None:
        self._to, self._features, self._classes = to, features, classes

        def intrinsic(name: str, returned: Any, *arguments: Any) -> Any:
            return ir.Function(module, ir.FunctionType(returned, arguments), f"llvm.{name}")

        self._fma = intrinsic(f"fma.v{LANES}f32", _LINE, _LINE, _LINE, _LINE)
        self._largest = intrinsic(f"vector.reduce.fmax.v{LANES}f32", _FLOAT, _LINE)
        self._trailing_zeros = intrinsic(f"cttz.i{LANES}", _MASK, _MASK, _BIT)

    def line(self, start: Any, at: Any) -> Any:
        """Load a value for each lane."""
        to = self._to
        return to.load(to.bitcast(to.gep(start, [at]), _LINE.as_pointer()), align=4)

    def logits(self, sample: Any, weights: Any, bias: Any) -> Any:
        """Add the products of one group of classes, block after block, to their bias."""
        total = bias
        whole, rest = divmod(self._features, _BLOCK)
        for first in range(0, whole, _BLOCKS_AT_ONCE):
            blocks = range(first, min(whole, first + _BLOCKS_AT_ONCE))
            total = self._add_blocks(sample, weights, [block * _BLOCK for block in blocks], _BLOCK, total)
        return self._add_blocks(sample, weights, [whole * _BLOCK], rest, total) if rest else total

    def _add_blocks(self, sample: Any, weights: Any, starts: list[int], size: int, total: Any) -> Any:
        to = self._to
        with loop(to, LONG(size), [ir.Constant(_LINE, None)] * len(starts)) as (step, sums):
            for place, start in enumerate(starts):
                feature = to.add(step, LONG(start))
                weight = self.line(weights, to.mul(feature, LONG(LANES)))
                sums[place] = to.call(self._fma, [self._spread(sample, feature), weight, sums[place]])
        for each in sums:
            total = to.fadd(each, total)
        return total

    def _spread(self, sample: Any, feature: Any) -> Any:
        to = self._to
        value = to.load(to.gep(sample, [feature]), align=1)
        value = to.uitofp(value, _FLOAT) if value.type == _BYTE else value
        return self._everywhere(value)

    def _everywhere(self, value: Any) -> Any:
        first = self._to.insert_element(ir.Constant(_LINE, ir.Undefined), value, _INT(0))
        return self._to.shuffle_vector(first, ir.Constant(_LINE, ir.Undefined), ir.Constant(_INTS, None))

    def exponentials(self, logits: list[Any]) -> tuple[list[Any], Any]:
        """Emit the exponentials of logits less their largest, zero beyond the last class.

        The second value is whether all are normal numbers, which nothing is if a logit is no number.
        """
        to = self._to
        largest = self._everywhere(self._largest_of(logits))
        found, known = [], _BIT(1)
        for group, line in enumerate(logits):
            differences = to.fsub(line, largest)
            near = to.fcmp_ordered(">=", differences, _constant(-_LOGIT_SPAN_MAX))
            beyond = [_BIT(group * LANES + lane >= self._classes) for lane in range(LANES)]
            unused = ir.Constant(ir.VectorType(_BIT, LANES), beyond)
            lanes = to.bitcast(to.or_(near, unused), _MASK)
            known = to.and_(known, to.icmp_unsigned("==", lanes, _MASK(2**LANES - 1)))
            found.append(to.select(unused, _constant(0.0), self._exponential(differences)))
        return found, known

    def _exponential(self, differences: Any) -> Any:
        to = self._to
        shifted = to.call(self._fma, [differences, _constant(_LOG2_E), _constant(_ROUNDING)])
        twos = to.fsub(shifted, _constant(_ROUNDING))
        rest = to.call(self._fma, [twos, _constant(_LN2_HIGH), differences])
        rest = to.call(self._fma, [twos, _constant(_LN2_LOW), rest])
        value = _constant(float.fromhex(_POLYNOMIAL[0]))
        for coefficient in _POLYNOMIAL[1:]:
            value = to.call(self._fma, [value, rest, _constant(float.fromhex(coefficient))])
        bits = to.shl(to.bitcast(shifted, _INTS), _constant_int(_EXPONENT_BIT))
        return to.fmul(value, to.bitcast(to.add(bits, _constant_int(_ONE_BITS)), _LINE))

    def best(self, exponentials: list[Any]) -> tuple[Any, Any]:
        """Emit the first of the most probable classes, and its probability."""
        to = self._to
        share = self._everywhere(to.fdiv(ir.Constant(_FLOAT, 1.0), self._total(exponentials)))
        probabilities = [to.fmul(each, share) for each in exponentials]
        largest = self._largest_of(probabilities)
        place = LONG(0)
        for group, line in reversed(list(enumerate(probabilities))):
            equal = to.bitcast(to.fcmp_ordered("==", line, self._everywhere(largest)), _MASK)
            first = to.zext(to.call(self._trailing_zeros, [equal, _BIT(0)]), LONG)
            here = to.icmp_unsigned("!=", equal, _MASK(0))
            place = to.select(here, to.add(first, LONG(group * LANES)), place)
        return place, largest

    def _total(self, lines: list[Any]) -> Any:
        to, total = self._to, lines[0]
        for line in lines[1:]:
            total = to.fadd(total, line)
        half = LANES // 2
        total = to.fadd(*(_part(to, total, range(start, start + half)) for start in (0, half)))
        for size in (half, half // 2, half // 4):
            total = to.fadd(*(_part(to, total, range(start, size, 2)) for start in (0, 1)))
        return to.extract_element(total, _INT(0))

    def _largest_of(self, lines: list[Any]) -> Any:
        to, largest = self._to, lines[0]
        for line in lines[1:]:
            largest = to.select(to.fcmp_ordered(">", line, largest), line, largest)
        return to.call(self._largest, [largest])


def _part(to: ir.IRBuilder, line: Any, lanes: range) -> Any:
    chosen = ir.Constant(ir.VectorType(_INT, len(lanes)), list(lanes))
    return to.shuffle_vector(line, ir.Constant(line.type, ir.Undefined), chosen)


def _constant(value: float) -> Any:
    return ir.Constant(_LINE, [value] * LANES)


def _constant_int(value: int) -> Any:
    return ir.Constant(_INTS, [value] * LANES)
