"""The columns of a training set that grows and changes, against columns made anew."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from labelloop.events.v1.events_pb2 import Purpose

from trainer_svc.domain.examples import Example
from trainer_svc.domain.training_columns import ExampleColumns, TrainingColumns

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def example(chance: Random, sample_id: int) -> Example:
    purpose = chance.choice((Purpose.PURPOSE_CHOSEN, Purpose.PURPOSE_CONTROL))
    return Example(sample_id, chance.randrange(3), chance.random() < 0.5, "s", "", 0, NOW, None, None, purpose)


def assert_equal(one: ExampleColumns, other: ExampleColumns) -> None:
    for each in fields(ExampleColumns):
        left, right = getattr(one, each.name), getattr(other, each.name)
        assert left.dtype == right.dtype
        assert left.tolist() == right.tolist()


@settings(deadline=None)
@given(
    st.randoms(use_true_random=False), st.lists(st.sampled_from(["grow", "revise", "withdraw", "copy"]), max_size=12)
)
def test_kept_columns_are_those_of_the_whole_training_set(chance: Random, changes: list[str]) -> None:
    kept, training = TrainingColumns(), list[Example]()
    for change in ["grow", *changes]:
        training = list(training)
        place = chance.randrange(len(training)) if training else 0
        match change:
            case "grow":
                training += [example(chance, len(training) + i) for i in range(chance.randrange(4))]
            case "revise" if training:
                training[place] = replace(training[place], label=training[place].label + 1)
            case "withdraw" if training:
                del training[place]
            case "copy":  # as of a state that was expected: equal examples that are other objects
                training = [replace(each) for each in training]
        assert_equal(kept.of(training), ExampleColumns.of(training))


def test_controls_are_those_requested_as_such_and_those_that_the_random_order_reached() -> None:
    chosen, control = Purpose.PURPOSE_CHOSEN, Purpose.PURPOSE_CONTROL
    purposes = {4: chosen, 9: control, 2: chosen}
    training = [Example(id_, 0, False, "s", "", 0, NOW, None, None, why) for id_, why in purposes.items()]
    columns = ExampleColumns.of(training)
    assert columns.drawn(set()).tolist() == [False, True, False]
    assert columns.drawn({2, 77}).tolist() == [False, True, True]
    assert columns.drawn({2}).dtype == np.bool_
