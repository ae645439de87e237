"""Hold a training set that grows as columns, so that a fit does not go over all of its examples again. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from labelloop.events.v1.events_pb2 import Purpose
from numpy.typing import NDArray

from trainer_svc.domain.examples import Example

_CONTROL = Purpose.PURPOSE_CONTROL  # looked up once: by name it takes a microsecond


@dataclass(frozen=True, eq=False)
class ExampleColumns:
    """What fits need of the examples of a training set, ``[n]`` each.

    Attributes:
        ids: Sample ids.
        labels: Class indices.
        auto: Whether the model gave the label.
        control: Whether the sample was requested as a control.
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    auto: NDArray[np.bool_]
    control: NDArray[np.bool_]

    @classmethod
    def of(cls, examples: Sequence[Example]) -> ExampleColumns:
        count = len(examples)
        return cls(
            np.fromiter((each.sample_id for each in examples), np.int64, count),
            np.fromiter((each.label for each in examples), np.int64, count),
            np.fromiter((each.auto_labelled for each in examples), np.bool_, count),
            np.fromiter((each.purpose == _CONTROL for each in examples), np.bool_, count),
        )

    def followed_by(self, more: ExampleColumns) -> ExampleColumns:
        names = [each.name for each in fields(self)]
        return ExampleColumns(*(np.concatenate([getattr(self, name), getattr(more, name)]) for name in names))

    def drawn(self, controls: set[int]) -> NDArray[np.bool_]:
        """Return which samples were drawn at random: requested as controls, or among ``controls``."""
        if not controls:
            return self.control
        return self.control | np.isin(self.ids, np.fromiter(controls, np.int64, len(controls)))


class TrainingColumns:
    """The columns of the training set that was asked for last."""

    def __init__(self) -> None:
        self._examples: list[Example] = []
        self._columns = ExampleColumns.of([])

    def of(self, training: list[Example]) -> ExampleColumns:
        """Return the columns of ``training``, which must not change later; of what it begins with, they are kept."""
        known = len(self._examples)
        if known and training[:known] == self._examples:  # quick: nearly all are the same objects
            self._columns = self._columns.followed_by(ExampleColumns.of(training[known:]))
        else:
            self._columns = ExampleColumns.of(training)
        self._examples = training
        return self._columns
