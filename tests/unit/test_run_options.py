"""Run specs from words."""

from __future__ import annotations

import pytest
from labelloop.events.v1.events_pb2 import GuaranteeSpec
from labelloop_cli.run_options import audit_size

from trainer_svc.domain.guarantee import audit_size_needed, guarantee_fault, lower_bound


@pytest.mark.parametrize(("target", "confidence"), [(0.99, 0.95), (0.95, 0.95), (0.9, 0.9), (0.995, 0.99)])
def test_an_audit_that_nobody_sized_can_show_what_is_guaranteed_with_a_mistake_in_it(
    target: float, confidence: float
) -> None:
    size = audit_size(GuaranteeSpec(target_accuracy=target, confidence=confidence), 60_000)
    assert size == 2 * audit_size_needed(target, confidence, 10_000_000)
    assert lower_bound(size - 1, size, confidence) >= target


@pytest.mark.parametrize(("rest", "size", "said"), [(1_000, 500, ""), (598, 299, "audit 378 at least")])
def test_of_a_small_pool_no_more_than_half_is_audited_and_where_that_cannot_do_it_is_said(
    rest: int, size: int, said: str
) -> None:
    assert audit_size(GuaranteeSpec(target_accuracy=0.99, confidence=0.95), rest) == size
    fault = guarantee_fault(0.99, 0.95, size, rest)
    assert said in fault if said else not fault


@pytest.mark.parametrize(("target", "confidence"), [(1.0, 0.95), (0.99, 1.0), (0.0, 0.95)])
def test_what_cannot_be_guaranteed_is_left_to_the_trainer_to_refuse(target: float, confidence: float) -> None:
    size = audit_size(GuaranteeSpec(target_accuracy=target, confidence=confidence), 60_000)
    assert "between 0 and 1" in guarantee_fault(target, confidence, size, 60_000)
