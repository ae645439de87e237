"""Tell users what a look at a whole dataset shows: near duplicates, and of how much of it features are learned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from labelloop.domain.limits import LEARN_FROM_CHARACTERS, LEARN_FROM_SAMPLES

from .dataset import Dataset
from .near_duplicates import COMPARED, Seen, near_duplicates

_NAMED_MAX = 3  # pairs
_COMPARED_MAX = 250_000  # samples: half a minute, where finding equal ones takes a few seconds
_NAME_CHARACTERS_MAX = 80


def with_closer_look(dataset: Dataset) -> Dataset:
    """Return ``dataset``, whose duplicates are known, with notes on its samples."""
    return replace(dataset, notes=(*dataset.notes, *_near(dataset), *_learned(dataset)))


def _near(dataset: Dataset) -> Iterator[str]:
    seen = Seen(dataset.shown.samples, dataset.shown.layout) if dataset.shown else Seen(dataset.samples, dataset.layout)
    if len(seen.samples) > _COMPARED_MAX:
        if seen.layout and seen.layout.kind in COMPARED:
            yield f"nearly equal samples were not looked for, because there are more than {_COMPARED_MAX:,}"
        return
    distinct = np.ones(len(seen.samples), bool)
    distinct[dataset.duplicates.ids] = False
    pairs = near_duplicates(seen, distinct)
    if len(pairs):
        named = [f"{_called(dataset, one)} and {_called(dataset, other)}" for one, other in pairs[:_NAMED_MAX].tolist()]
        many = "s are" if len(pairs) > 1 else " is"
        yield (
            f"at least {len(pairs):,} sample{many} nearly equal to an earlier one, such as {'; '.join(named)}: each is "
            "a sample of its own; leave out what should not be labelled twice"
        )


def _called(dataset: Dataset, sample_id: int) -> str:
    return repr(dataset.names[sample_id][:_NAME_CHARACTERS_MAX]) if dataset.names else str(sample_id)


def _learned(dataset: Dataset) -> Iterator[str]:
    """Say of how many texts features are learned, if those are not all."""
    if dataset.samples.dtype != object or dataset.graph:
        return
    count, characters = len(dataset.samples), sum(map(len, dataset.samples[:]))
    if count > LEARN_FROM_SAMPLES or characters > LEARN_FROM_CHARACTERS:
        yield (
            f"features are learned from texts drawn at random, {LEARN_FROM_SAMPLES:,} with {LEARN_FROM_CHARACTERS:,} "
            f"characters at most, of all {count:,} with {characters:,}; every text is then seen through them"
        )
