"""Exclude samples that cannot be among the first, by bounds on their scores. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from labelloop.scorer.v1.scorer_pb2 import Strategy
from numpy.typing import NDArray

from scorer_svc.pools.part import Part
from scorer_svc.prefilter.prefilter import Screen
from scorer_svc.strategies.uncertainty import Scores

_WORTH_SCREENING, _WORTH_COARSE = 4, 64  # a part must hold this many times the limit
_GUESSED, _GUESSED_MORE_MAX = 4, 200  # times the limit, and more than the limit: samples that are scored for a bound
_BOUNDED_MORE = 500  # more than the limit: samples whose scores are bounded from above for that
_SCORED_TWICE_MAX = 1_000  # samples that the model may score for a bound alone
_FEW = 200  # samples that the model scores as soon as a screen bounds them
_LEFT_MAX = 1 / 2  # of a part, after a screen that pays
_LEFT_BY_COARSE_MAX = 1 / 3  # if there is a more precise one


class Screening:
    """Excludes samples of one part after another, by each of a model's screens for as long as it pays.

    Args:
        screens: The fastest first, the most precise last.
        strategy: By what is ranked.
        limit: How many samples are to be found.
        last_score: Returns the score by the model of the ``limit``-th of some samples of a part, at ascending
            positions.
    """

    def __init__(
        self,
        screens: Sequence[Screen],
        strategy: Strategy.ValueType,
        limit: int,
        last_score: Callable[[Part, NDArray[np.intp]], float],
    ) -> None:
        self._used, self._finest = list(screens), screens[-1] if screens else None
        self._strategy, self._limit, self._last_score = strategy, limit, last_score
        self._guess = limit + min((_GUESSED - 1) * limit, _GUESSED_MORE_MAX)
        self._few = _FEW + self._guess
        self._bound = np.inf

    def hopeful(self, part: Part, free: NDArray[np.intp], bound: float) -> NDArray[np.intp]:
        """Return those of the positions ``free`` of samples that may be among the first ``limit``, in the same order.

        The first ``limit`` of all parts score at most ``bound``, and at most what the ``limit``-th of any samples does;
        a sample whose lowest possible score is higher is not among them.
        """
        screens = self._worth_using(len(free))
        if not screens:
            return free
        self._bound = min(self._bound, bound)
        near, lowest = free, np.empty(0, np.float32)
        for screen in screens:
            if len(near) <= self._few:
                return near
            lowest = screen.lowest(part.samples, near, self._strategy)
            hopeful = self._within(part, near, lowest, self._limit + _BOUNDED_MORE, self._highest)
            if len(near) == len(free):
                self._drop_if_useless(screen, len(hopeful) / len(free))
            near, lowest = near[hopeful], lowest[hopeful]
        if len(near) <= self._few or self._guess > _SCORED_TWICE_MAX:
            return near
        return near[self._within(part, near, lowest, self._guess, self._last_score)]

    def _worth_using(self, count: int) -> list[Screen]:
        """Return the screens that pay for a part of ``count`` free samples."""
        return [
            screen
            for screen in self._used
            if count > (_WORTH_SCREENING if screen is self._finest else _WORTH_COARSE) * self._limit
        ]

    def _within(
        self,
        part: Part,
        near: NDArray[np.intp],
        lowest: Scores,
        count: int,
        last_score: Callable[[Part, NDArray[np.intp]], float],
    ) -> NDArray[np.intp]:
        """Return which of ``near`` have a ``lowest`` score of at most the bound.

        If they are more than ``count``, the bound is lowered first to ``last_score`` of as many, whose lowest scores
        are the lowest.
        """
        within = np.flatnonzero(lowest <= self._bound)
        if len(within) <= count:
            return within
        some = lowest[within]
        guess = within[some <= np.partition(some, count - 1)[count - 1]][:count]
        self._bound = min(self._bound, last_score(part, near[guess]))
        return within[lowest[within] <= self._bound]

    def _highest(self, part: Part, positions: NDArray[np.intp]) -> float:
        """Return a bound on the ``limit``-th score of samples by what the most precise screen allows."""
        assert self._finest is not None
        highest = self._finest.highest(part.samples, positions, self._strategy)
        return float(np.partition(highest, self._limit - 1)[self._limit - 1])

    def _drop_if_useless(self, screen: Screen, left: float) -> None:
        if left > (_LEFT_MAX if screen is self._finest else _LEFT_BY_COARSE_MAX):
            self._used.remove(screen)
