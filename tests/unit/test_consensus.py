"""Consensus of several annotators' results, and the quality of each annotator."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.events.v1.events_pb2 import SkipKind

from oracle_svc.domain.annotator_quality import Judgement, records
from oracle_svc.domain.consensus import KNOWN_AFTER, SURE, Label, Outcome, Skip, Undecided, Vote, decide, posteriors

SKIPPED, REJECTED = Skip(SkipKind.SKIP_KIND_SKIPPED), Skip(SkipKind.SKIP_KIND_REJECTED)
DISPUTED = Skip(SkipKind.SKIP_KIND_DISPUTED)
outcomes = st.integers(0, 3) | st.sampled_from([SKIPPED, REJECTED])


def votes(*said: int | Skip) -> list[Vote]:
    return [Vote(f"a{i}", each) for i, each in enumerate(said)]


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ((), Undecided(2)),
        ((1,), Undecided(1)),
        ((1, 1), Label(1, 2, 1.0)),
        ((1, 2), Undecided(1)),
        ((1, 2, 2), Label(2, 3, 2 / 3)),
        ((1, 2, 0), Undecided(1)),
        ((1, 2, 0, 0), DISPUTED),
        ((1, 2, 1, 2), DISPUTED),
        ((SKIPPED, SKIPPED), SKIPPED),
        ((REJECTED, 1), Undecided(1)),
        ((REJECTED, 1, REJECTED), REJECTED),
        ((SKIPPED, REJECTED, 1, 1), DISPUTED),
    ],
)
def test_majority_of_votes_decides(said: tuple[int | Skip, ...], outcome: Outcome) -> None:
    assert decide(votes(*said), wanted=2, most=4) == outcome


@given(said=st.lists(outcomes, max_size=9), wanted=st.integers(1, 5), more=st.integers(0, 4), seed=st.integers())
def test_order_of_votes_does_not_change_the_outcome(said: list[int | Skip], wanted: int, more: int, seed: int) -> None:
    shuffled = votes(*said)
    Random(seed).shuffle(shuffled)
    outcome = decide(votes(*said), wanted=wanted, most=wanted + more)
    assert decide(shuffled, wanted=wanted, most=wanted + more) == outcome
    if isinstance(outcome, Undecided):
        assert len(said) + outcome.more <= max(wanted + more, wanted)
    if said and len(set(said)) == 1 and len(said) >= wanted:
        assert outcome == (said[0] if isinstance(said[0], Skip) else Label(said[0], len(said), 1.0))


def test_posterior_decides_a_disagreement_only_if_it_is_sure() -> None:
    assert decide(votes(1, 2), wanted=2, most=3, posterior={1: 0.1, 2: 0.9}) == Label(2, 2, 0.9)
    assert decide(votes(1, 2), wanted=2, most=3, posterior={1: 0.3, 2: 0.7}) == Undecided(1)
    assert decide(votes(1, 1), wanted=2, most=3, posterior={1: 0.1, 2: 0.9}) == Label(1, 2, 1.0)
    assert decide(votes(SKIPPED, SKIPPED, 1), wanted=2, most=3, posterior={1: 1.0}) == SKIPPED


def test_votes_of_accurate_annotators_weigh_more() -> None:
    """Each sample is labelled by two of three, of whom one errs often: a count could never decide."""
    rng = Random(1)
    right = {"kim": 0.97, "lee": 0.95, "errs": 0.4}
    truth = [rng.randrange(3) for _ in range(300)]
    said = {
        i: [
            Vote(name, label if rng.random() < right[name] else (label + rng.choice((1, 2))) % 3)
            for name in rng.sample(sorted(right), 2)
        ]
        for i, label in enumerate(truth)
    }
    found = posteriors(said, {})
    split = {i for i, each in said.items() if each[0].outcome != each[1].outcome}
    sure = {i: label for i in split for label, p in found[i].items() if p >= SURE}
    assert len(sure) > len(split) / 2
    assert sum(label == truth[i] for i, label in sure.items()) > 0.9 * len(sure)
    assert found == posteriors({i: said[i][::-1] for i in reversed(range(300))}, {})


def test_samples_without_a_class_have_no_posterior() -> None:
    assert posteriors({}, {}) == {}
    assert posteriors({3: [Vote("a", SKIPPED)]}, {}) == {}
    many = {i: [Vote("a", 1)] for i in range(KNOWN_AFTER)}
    assert posteriors({**many, 90: [Vote("b", SKIPPED)]}, {}) == {i: {1: 1.0} for i in many}


def test_annotators_with_few_votes_give_no_posterior() -> None:
    many = {i: [Vote("a", i % 2), Vote("b", i % 2)] for i in range(KNOWN_AFTER)}
    assert set(posteriors(many, {})) == set(many)
    last = many.pop(KNOWN_AFTER - 1)
    assert posteriors(many, {}) == {}
    with_a_stranger = {**many, 90: last, 91: [Vote("a", 1), Vote("stranger", 0)]}
    assert set(posteriors(with_a_stranger, {})) == {*many, 90}


def test_gold_samples_show_which_annotators_are_right() -> None:
    """Two who mistake 0 for 1 outvote one who does not, until samples of known class show it."""
    said = {i: [Vote("kim", i % 2), Vote("lee", 1), Vote("max", 1)] for i in range(3 * KNOWN_AFTER)}
    gold = {i: i % 2 for i in range(KNOWN_AFTER)}
    wrong, right = posteriors(said, {}), posteriors(said, gold)
    disputed = range(KNOWN_AFTER, 3 * KNOWN_AFTER, 2)
    assert all(wrong[i][1] >= SURE for i in disputed)
    assert all(right[i][0] >= SURE for i in disputed)


def test_each_annotator_has_a_record() -> None:
    kim, lee = records(
        [
            Judgement("lee", 2, 3.0, gold_label=1),
            Judgement("kim", 1, 1.0, gold_label=1, label=1),
            Judgement("kim", 2, 5.0, label=1),
            Judgement("kim", SKIPPED, 2.0, gold_label=0, label=1),
        ]
    )
    assert (kim.answers, kim.skips, kim.compared, kim.agreed, kim.gold, kim.gold_right) == (3, 1, 2, 1, 1, 1)
    assert (kim.time_spent_s, lee.gold, lee.gold_right, lee.compared) == (2.0, 1, 0, 0)
    assert kim.gold_low < 1.0 == kim.gold_high
