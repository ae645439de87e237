"""Stand-in until the real one is merged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from labelloop.events.v1.events_pb2 import AgreementRule, SkipKind


@dataclass(frozen=True)
class Label:
    label: int
    answer_count: int
    agreement: float


@dataclass(frozen=True)
class Skip:
    kind: SkipKind.ValueType


@dataclass(frozen=True)
class Undecided:
    more: int


Outcome = Label | Skip | Undecided


@dataclass(frozen=True)
class Vote:
    annotator: str
    outcome: int | Skip


def decide(
    votes: Sequence[Vote],
    *,
    wanted: int,
    most: int,
    rule: AgreementRule.ValueType,
    weigh: Callable[[], Mapping[int, float]],
) -> Outcome:
    if len(votes) < wanted:
        return Undecided(wanted - len(votes))
    top, n = Counter(vote.outcome for vote in votes).most_common(1)[0]
    if 2 * n > len(votes):
        return top if isinstance(top, Skip) else Label(top, len(votes), n / len(votes))
    return Undecided(1) if len(votes) < most else Skip(SkipKind.SKIP_KIND_DISPUTED)


def posteriors(votes: Mapping[int, Sequence[Vote]], class_count: int) -> dict[int, dict[int, float]]:
    return {}
