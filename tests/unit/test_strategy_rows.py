"""The bench of other libraries' strategies: rows that outlive an interruption, leads and plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.peers.strategy_rows import Loop, Row, Rows, arms, leads
from tests.bench.strategy_peers import OURS, plan
from tests.study.plan import AT, DEFAULT, FEATURES

LOOP = Loop("mnist-4000", "pixels", "other 1.0", "badge", 1)
OWN = replace(LOOP, library="own 2.0", strategy="margin")


def row(loop: Loop, accuracy: float, cpu_s: float | None = 2.0) -> Row:
    return Row(loop, dict.fromkeys(AT, accuracy), cpu_s)


def test_rows_are_kept_and_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "bench" / "rows.json"
    planned = [LOOP, replace(LOOP, seed=2), OWN]
    rows = Rows(path)
    assert rows.to_do(planned) == planned
    rows.add(row(LOOP, 0.7))
    again = Rows(path)
    assert again.to_do(planned) == planned[1:]
    assert again.of(planned) == [row(LOOP, 0.7)]
    assert again.to_do([replace(LOOP, library="other 1.1")])  # a new release is another library
    assert sorted(each.name for each in path.parent.iterdir()) == ["rows.json"]


def test_a_strategy_over_its_limits_is_left_out_for_that_pool_and_features(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "rows.json")
    rows.add(Row(LOOP, {}, left_out="takes more than 8 GiB"))
    assert rows.to_do([replace(LOOP, seed=2)]) == []
    assert rows.to_do([replace(LOOP, seed=2, features="patches")]) != []
    assert Rows(tmp_path / "rows.json").left_out(replace(LOOP, seed=3)) == "takes more than 8 GiB"
    assert arms(rows.of([LOOP]), "mnist-4000", "pixels") == {}


def test_the_lead_is_over_the_best_other_library_at_each_label_count() -> None:
    worse = replace(LOOP, strategy="margin")
    found = [row(LOOP, 0.7), row(replace(LOOP, seed=2), 0.8, cpu_s=4.0), row(worse, 0.6), row(OWN, 0.9, cpu_s=None)]
    found.append(row(replace(LOOP, features="patches"), 0.1))
    by_name = arms(found, "mnist-4000", "pixels")
    best = by_name["other 1.0 badge"]
    assert (best.seeds, best.cpu_s, by_name["own 2.0 margin"].cpu_s) == (2, 3.0, None)
    assert best.mean[400] == pytest.approx(0.75)
    assert best.spread[400] == pytest.approx(0.1 / 2**0.5)
    assert leads(by_name, "own 2.0 margin") == pytest.approx(dict.fromkeys(AT, 0.15))
    assert leads(by_name, "nobody") == {}
    assert leads({"own 2.0 margin": by_name["own 2.0 margin"]}, "own 2.0 margin") == {}


def test_the_plan_runs_all_on_the_same_pools_features_and_seeds() -> None:
    planned = plan(["mnist-4000", "mnist-60000"], [1, 2])
    everybody = {(loop.library, loop.strategy) for loop in planned}
    assert (OURS, DEFAULT) in everybody
    assert len(planned) == len(set(planned)) == 2 * 2 * len(FEATURES) * len(everybody)
    first = planned[: len(everybody) * len(FEATURES)]
    assert {(loop.pool, loop.seed) for loop in first} == {("mnist-4000", 1)}
