"""Cut parts of a pool into pieces that are ranked at a time. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from scorer_svc.pools.part import Part

_CUT_SAMPLES = 10_000  # no piece is smaller than this, but the last


def cut(parts: Sequence[Part], pieces: int) -> list[list[Part]]:
    """Split parts into at most ``pieces`` lists of about equal length, none of which is short, but the last."""
    total = sum(len(part.samples) for part in parts)
    length = max(-(-total // pieces), _CUT_SAMPLES)
    lists: list[list[Part]] = [[]]
    room = length
    for part in parts:
        start = 0
        while start < len(part.samples):
            if not room:
                lists.append([])
                room = length
            end = min(start + room, len(part.samples))
            lists[-1].append(Part(part.first + start, part.samples[start:end]))
            room -= end - start
            start = end
    return lists


def begun_small(parts: Sequence[Part], count: int) -> Iterator[Part]:
    """Yield ``parts``, with the first ``count`` samples by themselves: they show what screening excludes."""
    for part in parts[:1]:
        yield Part(part.first, part.samples[:count])
        if len(part.samples) > count:
            yield Part(part.first + count, part.samples[count:])
    yield from parts[1:]


def runs(count: int, least: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield starts and ends of runs of ``count`` samples, from ``least`` to ``most`` long, each longer than the last.

    The first ones may already hold the lowest possible scores.
    """
    start, length = 0, least
    while start < count:
        yield start, min(start + length, count)
        start, length = start + length, min(4 * length, most)


def free_positions(part: Part, leave_out: BitMap) -> NDArray[np.intp]:
    """Return the positions in the part of the samples that are not left out."""
    count = len(part.samples)
    if not leave_out.range_cardinality(part.first, part.end):
        return np.arange(count)
    taken = leave_out & BitMap(range(part.first, part.end))
    free = np.ones(count, bool)
    free[np.asarray(taken.to_array()) - part.first] = False
    return np.flatnonzero(free)
