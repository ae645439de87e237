"""The bench on scaling: what the rule and cross-validation fall short of the better choice."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench import scaling
from tests.bench.scaling import _compared


def test_the_regret_of_a_choice_is_what_the_other_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "_SEEDS", 2)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    telling = labels + rng.normal(0, 0.3, 300)
    stamps = rng.normal(0, 1e6, 300)
    found = _compared(np.column_stack([telling, stamps]).astype(np.float32), labels)
    assert found["rule"] == "standardised"
    assert found["standardised"] > found["as they are"]
    assert found["regret_of_rule"] == 0
    even = _compared(np.column_stack([telling, rng.normal(size=300)]).astype(np.float32), labels)
    assert even["rule"] == "as they are"
    assert even["regret_of_rule"] == round(max(0, even["standardised"] - even["as they are"]), 2)
    assert 0 <= even["seeds_in_which_cross_validation_agrees"] <= 2
