"""Simulated annotators, and whether the order of their answers decides an outcome. Pure.

What a person says of a sample depends on the two alone: a run with faults has the same people as a quiet one. Its
labels must be the same too if the order of the answers, which faults change, decides none:

- By majority, two annotators are asked, and a third one where they differ. Two equal answers are a majority of three
  whatever the third one is, and without two equal answers there is none in any order.
- By the rule of Dawid and Skene, the results before a sample's last one decide how far each annotator is believed. In
  a batch of several samples, those for the others may come before or after it, so that a sample at the edge of
  agreement is settled in one order and disputed in another. Here all three are asked for every sample, after gold
  samples by which they are known from the beginning, and one sample is open at a time: the results before its last one
  are the same in any order.

:func:`order_faults` tries out every order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, permutations

from labelloop.domain.annotators import Annotators
from labelloop.events.v1.events_pb2 import AgreementRule, AnswerGiven, GoldSample, QueueSpec, SkipKind

from oracle_svc.domain.answer_history import posteriors_at, votes_of
from oracle_svc.domain.consensus import Label, Skip, Undecided, decide

VERSION = 1  # of the rules by which answers become a label
Said = int | None
"""What a person says of a sample: a class, or None to skip it."""


@dataclass(frozen=True)
class Person:
    """An annotator who errs, or skips a sample, with these probabilities."""

    name: str
    errs: float
    skips: float = 0.0

    def says(self, sample_id: int, right: int, classes: int) -> Said:
        """Return what the person says of a sample, always the same."""
        rng = random.Random(f"{self.name} {sample_id}")
        if rng.random() < self.skips:
            return None
        return (right + rng.randrange(1, classes)) % classes if rng.random() < self.errs else right


PEOPLE = (Person("kim", 0.05, skips=0.05), Person("lee", 0.2), Person("max", 0.4))


@dataclass(frozen=True)
class Rule:
    """How three people's answers become labels.

    Attributes:
        annotators: How many are asked at first.
        gold: How many samples of known class there are.
        gold_first: Whether everybody answers all of these before any other sample, instead of when they are asked.
        batch_size: How many samples are open at a time.
    """

    name: str
    annotators: int
    agreement: AgreementRule.ValueType
    gold: int
    gold_first: bool = False
    batch_size: int = 2

    def queue(self, truth: Sequence[int]) -> QueueSpec:
        """Return the spec's part, with the first samples of the pool as gold ones."""
        gold = [GoldSample(sample_id=each, label=int(truth[each])) for each in range(self.gold)]
        return QueueSpec(annotators=self.annotators, annotators_max=len(PEOPLE), agreement=self.agreement, gold=gold)


MAJORITY = Rule("majority", 2, AgreementRule.AGREEMENT_RULE_MAJORITY, gold=3)
DAWID_SKENE = Rule("dawid-skene", 3, AgreementRule.AGREEMENT_RULE_DAWID_SKENE, gold=30, gold_first=True, batch_size=1)
RULES = (MAJORITY, DAWID_SKENE)


def order_faults(
    rule: Rule, batches: Sequence[Sequence[int]], says: Callable[[str, int], Said], gold: Mapping[int, int]
) -> list[str]:
    """Return the samples whose outcome depends on the order of answers.

    Args:
        batches: The samples of each request for labels; one is open at a time.
        says: What the person of that name says of a sample.
        gold: The class of each gold sample.
    """
    found: list[str] = []
    before = [each for sample_id in gold for each in _answers(sample_id, says)] if rule.gold_first else []
    for batch in batches:
        for sample_id in batch:
            others = [each for other in batch if other != sample_id for each in _answers(other, says)]
            outcomes = set(_outcomes(rule, before, others, _answers(sample_id, says), gold))
            if len(outcomes) > 1:
                found.append(f"the order of answers decides sample {sample_id}: {' or '.join(sorted(outcomes))}")
        before += [each for sample_id in batch for each in _answers(sample_id, says)]
    return found


def differed_on(batches: Sequence[Sequence[int]], says: Callable[[str, int], Said]) -> list[int]:
    """Return the samples of which not everybody says the same."""
    return [each for batch in batches for each in batch if len({says(person.name, each) for person in PEOPLE}) > 1]


def _answers(sample_id: int, says: Callable[[str, int], Said]) -> list[AnswerGiven]:
    return [_answer(sample_id, slot, person.name, says) for slot, person in enumerate(PEOPLE)]


def _answer(sample_id: int, slot: int, name: str, says: Callable[[str, int], Said]) -> AnswerGiven:
    said = says(name, sample_id)
    if said is None:
        return AnswerGiven(sample_id=sample_id, slot=slot, annotator=name, skip=SkipKind.SKIP_KIND_SKIPPED)
    return AnswerGiven(sample_id=sample_id, slot=slot, annotator=name, label=said)


def _outcomes(
    rule: Rule,
    before: Sequence[AnswerGiven],
    others: Sequence[AnswerGiven],
    own: Sequence[AnswerGiven],
    gold: Mapping[int, int],
) -> Iterator[str]:
    """Yield the outcome for each order of a sample's answers, behind each set of the other ones of its batch."""
    weighs = rule.agreement == AgreementRule.AGREEMENT_RULE_DAWID_SKENE
    sets = chain.from_iterable(combinations(others, size) for size in range(len(others) + 1)) if weighs else [()]
    orders = [tuple(own)] if rule.annotators == len(own) else [*permutations(own)]
    for heard in sets:
        for order in orders:
            yield _outcome(rule, [*before, *heard], order, gold if weighs else None)


def _outcome(
    rule: Rule, before: Sequence[AnswerGiven], own: Sequence[AnswerGiven], gold: Mapping[int, int] | None
) -> str:
    """Return what becomes of a sample; ``gold`` is None for a rule that does not weigh annotators."""
    for count in range(rule.annotators, len(own) + 1):
        history, posterior = [*before, *own[:count]], None
        if gold is not None:
            weighed = posteriors_at(history, {own[0].sample_id: len(history)}, gold, rule.annotators, Annotators())
            posterior = weighed.get(own[0].sample_id)
        votes = votes_of(own[:count], Annotators())
        outcome = decide(votes, wanted=rule.annotators, most=len(PEOPLE), posterior=posterior, version=VERSION)
        match outcome:
            case Label(label):
                return f"class {label}"
            case Skip(kind):
                return SkipKind.Name(kind)
            case Undecided():
                continue
    raise AssertionError("the last annotator settles a sample")
