"""Emit functions that bound the scores of a block of samples from below, by each strategy.

:mod:`scorer_svc.prefilter.score_bounds` says what they compute. This module needs llvmlite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labelloop.runtime.machine_code import LONG, loop
from labelloop.scorer.v1.scorer_pb2 import Strategy
from llvmlite import ir

from scorer_svc.prefilter.elementary_code import exp, log
from scorer_svc.prefilter.layout import Layout
from scorer_svc.prefilter.vectors import FLOAT, Floats


class _Block:
    """Logits ``[classes, lanes]`` of a block of samples, followed by the error of each; what all scores need of them.

    Attributes:
        error: By how much the difference of two logits may be off, at most.
        slack: What rounding can change; negative, as the error is then, for bounds from above.
        slope: How much an entropy can change with ``error``.
    """

    def __init__(self, to: Floats, layout: Layout, logits: Any, numbers: Any) -> None:
        self.to, self.logits, self.classes = to, logits, layout.classes
        self.error = to.load(logits, LONG(layout.classes * layout.block))
        self.slack, self.slope = (to.load_all(numbers, place) for place in (0, 1))

    def logit(self, index: Any) -> Any:
        return self.to.load(self.logits, self.to.to.mul(index, LONG(self.to.lanes)))

    def largest(self) -> tuple[Any, Any]:
        """Return the largest and the second largest logit."""
        to, (first, other) = self.to, (self.logit(LONG(index)) for index in (0, 1))
        pair = [to.most(first, other), to.least(first, other)]
        if self.classes == 2:
            return pair[0], pair[1]
        with loop(to.to, LONG(self.classes - 2), pair) as (index, carried):
            logit = self.logit(to.to.add(index, LONG(2)))
            carried[1] = to.most(carried[1], to.least(carried[0], logit))
            carried[0] = to.most(carried[0], logit)
            pair = carried
        return pair[0], pair[1]

    def total(self, largest: Any) -> Any:
        """Return the sum of exp(logit - largest)."""
        to = self.to
        with loop(to.to, LONG(self.classes), [to.all(0.0)]) as (index, sums):
            sums[0] = to.to.fadd(sums[0], exp(to, to.to.fsub(self.logit(index), largest)))
        return sums[0]

    def total_and_mean(self, largest: Any) -> tuple[Any, Any]:
        """Return the sum, and the sum of each term times its logarithm."""
        to = self.to
        with loop(to.to, LONG(self.classes), [to.all(0.0)] * 2) as (index, sums):
            below = to.to.fsub(self.logit(index), largest)
            power = exp(to, below)
            sums[:] = to.to.fadd(sums[0], power), to.plus(sums[1], power, below)
        return sums[0], sums[1]

    def probability(self, total: Any, factor: Any) -> Any:
        """Return the largest probability if the odds against it are ``factor`` times as high."""
        to = self.to
        odds = to.to.fsub(total, to.all(1.0))
        return to.to.fdiv(to.all(1.0), to.plus(to.all(1.0), odds, factor))

    def rounding(self, factor: Any) -> Any:
        """Return what rounding can change if odds are multiplied by ``factor``."""
        return self.to.to.fmul(self.slack, self.to.most(factor, self.to.all(1.0)))

    def smaller(self) -> Any:
        """Return exp(-error)."""
        return exp(self.to, self.to.to.fneg(self.error))

    def greater(self, smaller: Any) -> Any:
        """Return exp(error)."""
        return self.to.to.fdiv(self.to.all(1.0), smaller)


def _least_confidence(block: _Block) -> Any:
    largest, _ = block.largest()
    greater = block.greater(block.smaller())
    found = block.probability(block.total(largest), greater)
    return block.to.to.fsub(found, block.rounding(greater))


def _most_confident(block: _Block) -> Any:
    largest, _ = block.largest()
    smaller = block.smaller()
    found = block.probability(block.total(largest), smaller)
    return block.to.to.fneg(block.to.to.fadd(found, block.rounding(smaller)))


def _margin(block: _Block) -> Any:
    to = block.to
    largest, second = block.largest()
    greater = block.greater(block.smaller())
    gap = to.most(to.to.fsub(to.to.fsub(largest, second), block.error), to.all(0.0))
    part = to.to.fsub(to.all(1.0), exp(to, to.to.fneg(gap)))
    found = to.to.fmul(part, block.probability(block.total(largest), greater))
    return to.to.fsub(found, block.rounding(greater))


def _entropy(block: _Block) -> Any:
    to = block.to
    largest, _ = block.largest()
    total, mean = block.total_and_mean(largest)
    found = to.to.fsub(to.to.fdiv(mean, total), log(to, total))
    return to.to.fsub(to.to.fsub(found, to.to.fmul(block.slope, block.error)), block.slack)


LOWEST: dict[Strategy.ValueType, Callable[[_Block], Any]] = {
    Strategy.STRATEGY_LEAST_CONFIDENCE: _least_confidence,
    Strategy.STRATEGY_MARGIN: _margin,
    Strategy.STRATEGY_ENTROPY: _entropy,
    Strategy.STRATEGY_MOST_CONFIDENT: _most_confident,
}


def score_functions(module: ir.Module, layout: Layout) -> dict[int, ir.Function]:
    """Emit, by strategy, functions that take addresses of a block's logits, of slack and slope, and of the result."""
    return {int(strategy): _function(module, layout, strategy) for strategy in LOWEST}


def _function(module: ir.Module, layout: Layout, strategy: Strategy.ValueType) -> ir.Function:
    kind = ir.FunctionType(ir.VoidType(), [FLOAT.as_pointer()] * 3)
    function = ir.Function(module, kind, f"scores_{strategy}")
    function.linkage = "internal"
    for argument in function.args:
        argument.add_attribute("noalias")
    logits, numbers, found = function.args
    to = Floats(ir.IRBuilder(function.append_basic_block()), layout.block)
    to.store(LOWEST[strategy](_Block(to, layout, logits, numbers)), found, LONG(0))
    to.to.ret_void()
    return function
