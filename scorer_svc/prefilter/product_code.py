"""Emit products of samples and weights, by the instructions that a processor has. This module needs llvmlite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from labelloop.runtime.machine_code import LONG, loop
from llvmlite import ir

from scorer_svc.prefilter.instructions import Product
from scorer_svc.prefilter.layout import Layout
from scorer_svc.prefilter.vectors import BYTE, INT, SHORT, intrinsic, shuffled

Add = Callable[[Any, Any, Any], Any]
"""Takes a vector of sums, of a sample's values as :class:`Products` prepares them, and of weights; returns the sums."""

_DOT = {4: "llvm.x86.avx512.vpdpbusd.128", 8: "llvm.x86.avx512.vpdpbusd.256", 16: "llvm.x86.avx512.vpdpbusd.512"}
_PAIRS = {8: "llvm.x86.avx2.pmadd.ub.sw", 16: "llvm.x86.avx512.pmaddubs.w.512"}
_PAIRS_OF_PAIRS = {8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}


class Products:
    """Emits sums of products for a group of rows and a few samples."""

    def __init__(self, to: ir.IRBuilder, layout: Layout) -> None:
        self._to, self._layout = to, layout
        bits = layout.instructions.weight_bits
        self._weights = ir.VectorType(ir.IntType(bits), layout.step)
        self._sum = ir.VectorType(INT, layout.instructions.lanes)
        self._add = _additions(to, layout)[layout.instructions.product]

    def of(self, samples: Sequence[Any], ahead: Sequence[Any], weights: Any, rows: int) -> list[list[Any]]:
        """Return a vector of partial sums for each sample and row; its elements add up to the product.

        Meanwhile the samples at the addresses ``ahead`` are read into the first cache alone: they are needed once, and
        would drive out of the others what the rest of the process needs.
        """
        to, step = self._to, self._layout.step
        whole, rest = divmod(self._layout.features, step)
        sums: list[Any] = [ir.Constant(self._sum, None)] * (len(samples) * rows)
        if whole:
            with loop(to, LONG(whole), sums) as (index, carried):
                at = to.mul(index, LONG(step))
                values = [self._values(to.gep(sample, [at]), step) for sample in samples]
                for sample in ahead:
                    self._fetch(to.gep(sample, [at]))
                carried[:] = sums = self._added(carried, values, to.gep(weights, [to.mul(at, LONG(rows))]), rows)
        if rest:
            values = [self._values(to.gep(sample, [LONG(whole * step)]), rest) for sample in samples]
            sums = self._added(sums, values, to.gep(weights, [LONG(whole * step * rows)]), rows)
        return [sums[one * rows : (one + 1) * rows] for one in range(len(samples))]

    def _fetch(self, place: Any) -> None:
        kinds = [BYTE.as_pointer(), INT, INT, INT]
        to = self._to
        to.call(intrinsic(to.module, "llvm.prefetch.p0", ir.VoidType(), kinds), [place, INT(0), INT(0), INT(1)])

    def _added(self, sums: Sequence[Any], values: Sequence[Any], line: Any, rows: int) -> list[Any]:
        to, added = self._to, list(sums)
        for row in range(rows):
            place = to.gep(line, [LONG(row * self._layout.step)])
            own = to.load(to.bitcast(place, self._weights.as_pointer()), align=self._layout.instructions.lanes * 4)
            for one, value in enumerate(values):
                added[one * rows + row] = self._add(added[one * rows + row], value, own)
        return added

    def _values(self, some: Any, size: int) -> Any:
        """Read ``size`` values of a sample, and not a byte more; the others are 0."""
        to, step = self._to, self._layout.step
        kind = ir.VectorType(BYTE, size)
        values = to.load(to.bitcast(some, kind.as_pointer()), align=1)
        if size < step:
            values = shuffled(to, values, ir.Constant(kind, None), [min(place, size) for place in range(step)])
        if shift := self._layout.instructions.shift:
            return to.xor(values, ir.Constant(ir.VectorType(BYTE, step), [shift] * step))  # modulo 256, a difference
        return values


def _additions(to: ir.IRBuilder, layout: Layout) -> dict[Product, Add]:
    """Return how each instruction adds products to sums."""
    lanes = layout.instructions.lanes
    sum_, quads = ir.VectorType(INT, lanes), ir.VectorType(BYTE, 4 * lanes)
    pairs = ir.VectorType(SHORT, 2 * lanes)

    def vpdpbusd(sums: Any, values: Any, weights: Any) -> Any:
        code = intrinsic(to.module, _DOT[lanes], sum_, [sum_] * 3)
        return to.call(code, [sums, to.bitcast(values, sum_), to.bitcast(weights, sum_)])

    def vpmaddubsw(sums: Any, values: Any, weights: Any) -> Any:
        products = to.call(intrinsic(to.module, _PAIRS[lanes], pairs, [quads] * 2), [values, weights])
        both = intrinsic(to.module, _PAIRS_OF_PAIRS[lanes], sum_, [pairs] * 2)
        return to.add(sums, to.call(both, [products, ir.Constant(pairs, [1] * 2 * lanes)]))

    def sdot(sums: Any, values: Any, weights: Any) -> Any:
        code = intrinsic(to.module, "llvm.aarch64.neon.sdot.v4i32.v16i8", sum_, [sum_, quads, quads])
        return to.call(code, [sums, values, weights])

    def added(sums: Any, values: Any, weights: Any, one: Sequence[int], other: Sequence[int]) -> Any:
        wide = ir.VectorType(INT, 2 * lanes)
        products = to.mul(to.zext(values, wide), to.sext(weights, wide))
        halves = (shuffled(to, products, products, places) for places in (one, other))
        return to.add(sums, to.add(*halves))

    def neighbours(sums: Any, values: Any, weights: Any) -> Any:
        return added(sums, values, weights, range(0, 2 * lanes, 2), range(1, 2 * lanes, 2))

    def halves(sums: Any, values: Any, weights: Any) -> Any:
        return added(sums, values, weights, range(lanes), range(lanes, 2 * lanes))

    return {
        "vpdpbusd": vpdpbusd,
        "vpmaddubsw": vpmaddubsw,
        "sdot": sdot,
        "neighbours": neighbours,
        "halves": halves,
    }


def transposed_sums(to: ir.IRBuilder, vectors: Sequence[Any]) -> Any:
    """Return a vector whose element j is the sum of the elements of ``vectors[j]``, as many as each has: 4, 8 or 16.

    Two vectors become one of twice as many, half as long sums at each stage: first within 128 bits, then across them.
    """
    lanes = len(vectors)
    quarters = range(0, lanes, 4)
    for run in (1, 2):  # [a0 b0 a1 b1] and [a2 b2 a3 b3], then [a0 a1 c0 c1] and [a2 a3 c2 c3] of sums of two
        pairs = [lane + side for lane in range(0, 2, run) for side in _sides(run, lanes)]
        low = [quarter + lane for quarter in quarters for lane in pairs]
        high = [lane + 2 for lane in low]
        vectors = _added_pairs(to, vectors, low, high)
    while len(vectors) > 1:
        low = [lane for start in range(0, 2 * lanes, 8) for lane in range(start, start + 4)]
        vectors = _added_pairs(to, vectors, low, [lane + 4 for lane in low])
    return vectors[0]


def _sides(run: int, lanes: int) -> list[int]:
    return [side + lane for side in (0, lanes) for lane in range(run)]


def _added_pairs(to: ir.IRBuilder, vectors: Sequence[Any], low: Sequence[int], high: Sequence[int]) -> list[Any]:
    pairs = zip(vectors[::2], vectors[1::2], strict=True)
    return [to.add(shuffled(to, one, other, low), shuffled(to, one, other, high)) for one, other in pairs]
