"""Labels of samples that equal a labelled one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from labelloop.events.v1.events_pb2 import Purpose
from labelloop.trainer.v1.trainer_pb2 import LabelRecord
from labelloop_cli.shared_labels import shared_labels, without_shared

VALUES = st.lists(st.integers(0, 5), min_size=1, max_size=30)


def firsts(values: list[int]) -> dict[int, int]:
    return {place: values.index(value) for place, value in enumerate(values) if values.index(value) != place}


@given(values=VALUES, data=st.data())
def test_each_sample_that_equals_a_labelled_one_has_its_label(values: list[int], data: st.DataObject) -> None:
    labelled = data.draw(st.sets(st.integers(0, len(values) - 1)))
    records = [LabelRecord(sample_id=each, label=values[each]) for each in data.draw(st.permutations(sorted(labelled)))]
    found = {record.sample_id: (record.label, equal_to) for record, equal_to in shared_labels(records, firsts(values))}
    known = {values[each]: each for each in sorted(labelled, reverse=True)}
    assert found == {
        place: (value, known[value]) for place, value in enumerate(values) if value in known and place not in labelled
    }
    assert [*found] == sorted(found)


def test_labels_count_before_auto_labels_and_first_samples_before_later_ones() -> None:
    records = [
        LabelRecord(sample_id=0, label=0, auto_labelled=True),
        LabelRecord(sample_id=3, label=2),
        LabelRecord(sample_id=2, label=1),
    ]
    [(shared, equal_to)] = shared_labels(records, {1: 0, 2: 0, 3: 0})
    assert (shared.sample_id, shared.label, shared.auto_labelled, equal_to) == (1, 1, False, 2)


def test_a_shared_label_says_that_nobody_was_asked_for_it() -> None:
    record = LabelRecord(
        sample_id=0,
        label=1,
        source="queue",
        annotator="kim",
        round=2,
        confidence=0.5,
        purpose=Purpose.PURPOSE_CONTROL,
        score=0.1,
    )
    [(shared, _)] = shared_labels([record], {4: 0})
    assert shared == LabelRecord(sample_id=4, label=1, source="duplicate", round=2, confidence=0.5)


def test_rows_that_repeat_the_class_of_an_equal_sample_are_left_out() -> None:
    assert without_shared({0: 1, 4: 1, 5: 0, 7: 1, 2: 0}, {4: 0, 5: 0, 7: 6}) == {0: 1, 5: 0, 7: 1, 2: 0}
