"""The estimate of Dawid and Skene: cases worked out by hand, its symmetries, and simulated annotators."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle_svc.domain.dawid_skene import Answer, class_posteriors

NO_PRIOR = 1e-9


def simulated(seed: int, accuracy: dict[str, float], *, samples: int, classes: int) -> tuple[list[Answer], list[int]]:
    """Answers of annotators, each right with its given probability, and the true classes."""
    rng = Random(seed)
    truth = [rng.randrange(classes) for _ in range(samples)]
    answers = [
        (i, name, label if rng.random() < right else (label + rng.randrange(1, classes)) % classes)
        for i, label in enumerate(truth)
        for name, right in accuracy.items()
    ]
    return answers, truth


def most_probable(posterior: dict[int, float]) -> int:
    return max(posterior, key=lambda label: posterior[label])


def gold_record(annotator: str, right: int, wrong: int, first: int) -> list[Answer]:
    """Answers on samples from ``first`` on, classes 0 and 1 in turn: ``right`` right ones of each class, then wrong."""
    labels = [0, 1] * right + [1, 0] * wrong
    return [(first + i, annotator, label) for i, label in enumerate(labels)]


def test_without_answers_there_are_no_posteriors() -> None:
    assert class_posteriors([], {}) == {}


def test_a_single_class_is_certain() -> None:
    assert class_posteriors([(3, "a", 7), (5, "b", 7)], {}) == {3: {7: 1.0}, 5: {7: 1.0}}


def test_a_known_class_is_certain_even_if_no_annotator_named_it() -> None:
    found = class_posteriors([(0, "a", 1), (1, "a", 1), (1, "b", 2)], {0: 3})
    assert found[0] == {1: 0.0, 2: 0.0, 3: 1.0}
    assert found[1].keys() == {1, 2, 3}


def test_equally_good_annotators_who_disagree_leave_a_sample_even() -> None:
    gold = gold_record("a", 8, 2, first=0) + gold_record("b", 8, 2, first=20)
    truth = {i: i % 2 for i in range(40)}
    found = class_posteriors([*gold, (99, "a", 0), (99, "b", 1)], truth)
    assert found[99] == pytest.approx({0: 0.5, 1: 0.5})


@pytest.mark.parametrize("prior", [NO_PRIOR, 1.0, 3.0])
def test_the_estimate_solves_the_equations_of_the_model(prior: float) -> None:
    """One annotator, 6 of 8 and 9 of 10 known samples right, and one more sample, labelled 0. With q its probability of
    class 0 and half the prior in each cell, q/(1-q) = P(0) P(says 0 | 0) / (P(1) P(says 0 | 1))."""
    first = [(i, "a", 0 if i < 6 else 1) for i in range(8)]
    second = [(8 + i, "a", 1 if i < 9 else 0) for i in range(10)]
    truth = {i: int(i >= 8) for i in range(18)}
    q = class_posteriors([*first, *second, (99, "a", 0)], truth, prior=prior)[99][0]
    cell = prior / 2
    odds = (q + cell) * (6 + q + cell) / (8 + q + prior)
    against = (1 - q + cell) * (1 + (1 - q) + cell) / (10 + (1 - q) + prior)
    assert q == pytest.approx(odds / (odds + against), abs=1e-6)
    assert 0.5 < q <= 1.0


def test_names_and_order_do_not_change_the_estimate() -> None:
    answers, _ = simulated(1, {"a": 0.9, "b": 0.7, "c": 0.6}, samples=60, classes=3)
    truth = {0: 2, 1: 0}
    found = class_posteriors(answers, truth)
    shuffled = answers.copy()
    Random(2).shuffle(shuffled)
    assert class_posteriors(shuffled, truth) == found
    other = {"a": "z", "b": "y", "c": "x"}
    renamed = [(100 - sample, other[annotator], 5 - label) for sample, annotator, label in answers]
    twin = class_posteriors(renamed, {100 - sample: 5 - label for sample, label in truth.items()})
    for sample, posterior in found.items():
        assert {5 - label: p for label, p in twin[100 - sample].items()} == pytest.approx(posterior, abs=1e-6)


def test_posteriors_are_distributions_over_the_classes() -> None:
    answers, _ = simulated(3, {"a": 0.9, "b": 0.5}, samples=40, classes=4)
    for posterior in class_posteriors(answers, {}).values():
        assert set(posterior) == {0, 1, 2, 3}
        assert sum(posterior.values()) == pytest.approx(1.0)
        assert min(posterior.values()) >= 0.0


def test_a_good_annotator_outweighs_two_poor_ones() -> None:
    answers, truth = simulated(4, {"good": 0.97, "poor": 0.55, "worse": 0.5}, samples=400, classes=3)
    by_sample: dict[int, list[int]] = {}
    for sample, _, label in answers:
        by_sample.setdefault(sample, []).append(label)
    majority = sum(Counter(labels).most_common(1)[0][0] == truth[i] for i, labels in by_sample.items())
    estimated = sum(most_probable(each) == truth[i] for i, each in class_posteriors(answers, {}).items())
    assert majority < 0.88 * len(truth)
    assert estimated > 0.93 * len(truth)


def test_an_annotator_who_swaps_classes_is_still_informative() -> None:
    answers = [(i, "a", i % 2) for i in range(60)] + [(i, "swaps", 1 - i % 2) for i in range(60)]
    unseen = (99, "swaps", 0)
    found = class_posteriors([*answers, unseen], {i: i % 2 for i in range(40)})
    assert found[99][1] > 0.9


def test_class_frequencies_are_not_estimated_from_the_samples() -> None:
    """Samples are chosen: 30 of one class by another annotator change no other posterior."""
    answers, _ = simulated(5, {"a": 0.8, "b": 0.7}, samples=40, classes=2)
    elsewhere = [(1000 + i, "elsewhere", 1) for i in range(30)]
    found = class_posteriors([*answers, *elsewhere], {1000 + i: 1 for i in range(30)})
    alone = class_posteriors(answers, {})
    for sample, posterior in alone.items():
        assert found[sample] == pytest.approx(posterior, abs=1e-6)


def slow_posteriors(answers: list[Answer], truth: dict[int, int]) -> dict[int, dict[int, float]]:
    """The led estimate as its equations say, with dictionaries and 100 iterations."""
    samples, people = sorted({each[0] for each in answers}), sorted({each[1] for each in answers})
    known = {each: truth[each] for each in samples if each in truth}
    classes = sorted({each[2] for each in answers} | set(known.values()))
    pseudo: dict[tuple[str, int, int], float] = {}
    for who in people:
        gold = [label == known[i] for i, name, label in answers if name == who and i in known]
        accuracy = (sum(gold) + 0.8) / (len(gold) + 1)
        for said in classes:
            for true in classes:
                off = (1 - accuracy) / (len(classes) - 1) if len(classes) > 1 else 0.0
                pseudo[who, said, true] = (accuracy if said == true else off) if len(classes) > 1 else 1.0
    fixed = {i: {c: float(c == label) for c in classes} for i, label in known.items()}
    posterior = {i: fixed.get(i, dict.fromkeys(classes, 0.0)) for i in samples}
    for _ in range(100):
        confusion = dict(pseudo)
        for i, who, said in answers:
            for true in classes:
                confusion[who, said, true] += posterior[i][true]
        column = {
            (who, true): sum(confusion[who, said, true] for said in classes) for who in people for true in classes
        }
        frequency = {c: sum(posterior[i][c] for i in samples if i not in known) + 1 / len(classes) for c in classes}
        likelihood = {i: dict(frequency) for i in samples}
        for i, who, said in answers:
            for true in classes:
                likelihood[i][true] *= confusion[who, said, true] / column[who, true]
        before = posterior
        posterior = {
            i: fixed.get(i) or {c: likelihood[i][c] / sum(likelihood[i].values()) for c in classes} for i in samples
        }
        if max(abs(posterior[i][c] - before[i][c]) for i in samples for c in classes) < 1e-7:
            break
    return posterior


@given(
    answers=st.lists(
        st.tuples(st.integers(0, 8), st.sampled_from("abc"), st.integers(0, 2)),
        min_size=1,
        max_size=25,
        unique_by=lambda answer: answer[:2],
    ),
    truth=st.dictionaries(st.integers(0, 8), st.integers(0, 2), max_size=4),
)
def test_the_led_estimate_equals_a_slow_reference(answers: list[Answer], truth: dict[int, int]) -> None:
    found, expected = class_posteriors(answers, truth, led=True), slow_posteriors(answers, truth)
    assert found.keys() == expected.keys()
    for sample, posterior in found.items():
        assert posterior == pytest.approx(expected[sample], abs=1e-5)
    assert class_posteriors(answers[::-1], truth, led=True) == found, "whatever the order, bit for bit"


@pytest.mark.parametrize("classes", [2, 10])
def test_an_annotator_whom_gold_shows_to_be_wrong_is_not_believed(classes: int) -> None:
    """Two who are always wrong outnumber one who is mostly right; four samples of known class tell them apart."""
    right = 0
    for seed in range(5):
        answers, labels = simulated(seed, {"kim": 0.95, "wrong": 0.0, "worse": 0.0}, samples=38, classes=classes)
        truth = dict(enumerate(labels[:4]))
        found = class_posteriors(answers, truth, led=True)
        right += sum(most_probable(found[i]) == labels[i] for i in range(4, 38))
    assert right > 0.9 * 5 * 34


def test_few_answers_do_not_make_an_annotator_infallible() -> None:
    """Of two annotators who differ, one was right on two known samples of each class, the other on two of three."""
    gold = gold_record("a", 2, 0, first=0) + gold_record("b", 2, 1, first=10)
    truth = {i: i % 2 for i in range(20)}
    differ = [(99, "a", 0), (99, "b", 1)]
    assert class_posteriors([*gold, *differ], truth, prior=NO_PRIOR)[99][0] > 0.999999
    assert 0.5 < class_posteriors([*gold, *differ], truth)[99][0] < 0.999
