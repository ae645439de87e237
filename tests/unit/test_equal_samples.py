"""Which samples of a pool stand for those that equal them, and what that leaves a run to ask for."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.artifacts.formats import encode_duplicates
from labelloop.domain.duplicates import NO_DUPLICATES, Duplicates
from labelloop.errors import Corrupt
from labelloop.events.v1.events_pb2 import (
    Event,
    GoldSample,
    Inheritance,
    LabelProvided,
    LabelsRequested,
    ModelTrained,
    PoolPublished,
    RunSpec,
    RunStarted,
)
from labelloop.scorer.v1.scorer_pb2 import Strategy

from tests.published import artifacts_in
from trainer_svc.domain.equal_samples import free_count, spare
from trainer_svc.domain.policy import Finish, Fit, RequestLabels, next_step
from trainer_svc.domain.run_state import RunState
from trainer_svc.run_cache import DuplicateSets

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VALUES = st.lists(st.integers(0, 5), min_size=1, max_size=30)


def of(values: list[int]) -> Duplicates:
    return Duplicates.of(np.array([values.index(value) for value in values], np.int32))


@given(values=VALUES, data=st.data())
def test_one_sample_stands_for_all_that_equal_it(values: list[int], data: st.DataObject) -> None:
    taken = data.draw(st.sets(st.integers(0, len(values) - 1)))
    groups: dict[int, list[int]] = defaultdict(list)
    for place, value in enumerate(values):
        groups[value].append(place)
    left_out = {*spare(of(values), taken).tolist()}
    for group in groups.values():
        first = next((place for place in group if place in taken), group[0])
        stands = group[0] if group[0] in taken else first
        assert [place for place in group if place not in left_out] == [stands]
    askable = {*range(len(values))} - left_out - taken
    assert {values[place] for place in askable} == {*values} - {values[place] for place in taken}
    assert len(askable) == free_count(of(values), len(values), taken)
    assert len(askable) == len({values[place] for place in askable})


def test_without_duplicates_every_sample_stands_for_itself() -> None:
    assert not len(spare(NO_DUPLICATES, {1, 2}))
    assert free_count(NO_DUPLICATES, 5, {1, 2}) == 3


async def test_duplicates_other_than_those_of_the_event_are_refused(tmp_path: Path) -> None:
    artifacts = artifacts_in(tmp_path)
    digest = await artifacts.put(encode_duplicates(of([1, 1, 2])))
    pool = PoolPublished(sample_count=3, duplicates_sha256=digest, duplicate_count=1)
    assert (await DuplicateSets(artifacts).get(pool)).ids.tolist() == [1]
    assert await DuplicateSets(artifacts).get(PoolPublished(sample_count=3)) is NO_DUPLICATES
    pool.duplicate_count = 2
    with pytest.raises(Corrupt, match="holds 1 duplicates, not the pool's 2"):
        await DuplicateSets(artifacts).get(pool)


def begun(values: list[int], gold: list[int], known: list[int]) -> RunState:
    """Return the state of a run on a pool in which samples of the same value are equal."""
    spec = RunSpec(
        batch_size=3, label_budget=100, strategy=Strategy.STRATEGY_MARGIN, first_strategy=Strategy.STRATEGY_RANDOM
    )
    spec.queue.gold.extend(GoldSample(sample_id=each) for each in gold)
    taken_over = Inheritance(sample_ids=known, classes=[0] * len(known), auto_labelled=[False] * len(known))
    state = RunState.begin(Event(run_started=RunStarted(spec=spec, inheritance=taken_over)), NOW)
    pool = PoolPublished(sample_count=len(values), classes=["a", "b"], duplicate_count=len(of(values)))
    state.apply(Event(pool_published=pool), NOW)
    state.duplicates = of(values)
    return state


@given(values=VALUES, data=st.data())
def test_a_run_asks_for_each_value_once_and_ends(values: list[int], data: st.DataObject) -> None:
    ids = st.sets(st.integers(0, len(values) - 1), max_size=6)
    gold = data.draw(ids)
    known = data.draw(ids) - gold
    state = begun(values, sorted(gold), sorted(known))
    paid: list[int] = []
    while not isinstance(step := next_step(state.as_it_stands()), Finish):
        if isinstance(step, Fit):
            model = ModelTrained(model_sha256="m", labels=len(state.training))
            state.apply(Event(round=state.round + 1, model_trained=model), NOW)
            continue
        assert isinstance(step, RequestLabels)
        free = sorted(
            {*range(len(values))}.difference(state.run_log.taken, spare(state.duplicates, state.run_log.taken).tolist())
        )
        assert len(free) == state.free_count
        assert step.count <= len(free)
        chosen = data.draw(st.permutations(free))[: step.count]
        state.apply(Event(round=state.round, labels_requested=LabelsRequested(sample_ids=chosen)), NOW)
        for each in chosen:
            state.apply(Event(round=state.round, label_provided=LabelProvided(sample_id=each)), NOW)
        paid += chosen
    assert step.reason == "no sample of the pool is left to ask for"
    assert sorted(values[each] for each in paid) == sorted({*values} - {values[each] for each in gold | known})
