"""Emit operations on vectors: the few that the integer kernel's parts share.

This module needs llvmlite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labelloop.runtime.machine_code import LONG
from llvmlite import ir

BYTE, SHORT, INT, FLOAT = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.FloatType()
FUSED = ("contract",)


def intrinsic(module: ir.Module, name: str, result: Any, arguments: Sequence[Any]) -> Any:
    """Declare an intrinsic function of LLVM, once in a module."""
    if name in module.globals:
        return module.globals[name]
    return ir.Function(module, ir.FunctionType(result, list(arguments)), name)


def vector_at(to: ir.IRBuilder, values: Any, place: Any, kind: Any) -> Any:
    """Return a pointer to a vector of type ``kind`` that begins at element ``place`` of ``values``."""
    return to.bitcast(to.gep(values, [place]), kind.as_pointer())


def shuffled(to: ir.IRBuilder, one: Any, other: Any, lanes: Sequence[int]) -> Any:
    """Return the ``lanes`` of two vectors, those of ``other`` counted on from those of ``one``."""
    return to.shuffle_vector(one, other, ir.Constant(ir.VectorType(INT, len(lanes)), list(lanes)))


def spread(to: ir.IRBuilder, value: Any, lanes: int) -> Any:
    """Return a vector with ``value`` in all lanes."""
    kind = ir.VectorType(value.type, lanes)
    single = to.insert_element(ir.Constant(kind, ir.Undefined), value, INT(0))
    return shuffled(to, single, ir.Constant(kind, ir.Undefined), [0] * lanes)


def least_index(to: ir.IRBuilder, one: Any, other: Any) -> Any:
    return to.select(to.icmp_unsigned("<", one, other), one, other)


class Floats:
    """Arithmetic on float32 vectors of ``lanes``. A product and a sum are one instruction if the processor has one."""

    def __init__(self, to: ir.IRBuilder, lanes: int) -> None:
        self.to, self.lanes = to, lanes
        self.kind, self.whole = ir.VectorType(FLOAT, lanes), ir.VectorType(INT, lanes)

    def all(self, value: float) -> Any:
        return ir.Constant(self.kind, [value] * self.lanes)

    def all_whole(self, value: int) -> Any:
        return ir.Constant(self.whole, [value] * self.lanes)

    def plus(self, sum_: Any, one: Any, other: Any) -> Any:
        """Return ``sum_ + one * other``."""
        return self.to.fadd(sum_, self.to.fmul(one, other, flags=FUSED), flags=FUSED)

    def most(self, one: Any, other: Any) -> Any:
        return self.to.select(self.to.fcmp_ordered(">", one, other), one, other)

    def least(self, one: Any, other: Any) -> Any:
        return self.to.select(self.to.fcmp_ordered("<", one, other), one, other)

    def bits(self, values: Any) -> Any:
        return self.to.bitcast(values, self.whole)

    def floats(self, bits: Any) -> Any:
        return self.to.bitcast(bits, self.kind)

    def load(self, values: Any, place: Any) -> Any:
        return self.to.load(vector_at(self.to, values, place, self.kind), align=4)

    def store(self, result: Any, values: Any, place: Any) -> None:
        self.to.store(result, vector_at(self.to, values, place, self.kind), align=4)

    def load_all(self, values: Any, place: int) -> Any:
        """Return the number ``values[place]`` in all lanes."""
        return spread(self.to, self.to.load(self.to.gep(values, [LONG(place)])), self.lanes)
