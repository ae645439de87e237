"""The study: its plan, its statistics and reports, and that an interruption keeps its rows."""

from __future__ import annotations

import asyncio
import io
import json
import re
from pathlib import Path

import pytest
from labelloop.events.v1.events_pb2 import FeatureKind
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop_cli.reporting.charts import style
from rich.console import Console

from tests.bench import texts as bench_of_texts
from tests.bench.peers.strategy_rows import Loop
from tests.bench.strategy_peers import OURS
from tests.bench.text_sets import SETS
from tests.study import page as study_page
from tests.study import texts as study_of_texts
from tests.study.plan import AT, DEFAULT, FEATURES, POOLS, RANDOM, ROUNDS, SEEDS, STRATEGIES, Cell, cells, chosen, spec
from tests.study.results import (
    Beaten,
    Curves,
    Row,
    beaten,
    groups,
    labels_needed,
    rows_of,
    savings,
    sentences,
    table,
)
from tests.study.telling import tell
from tests.study.texts import stages, study_texts
from tests.study.working import Tell, left_of, read_rows, work
from tests.svg_reading import Drawing


def test_the_plan_holds_every_combination_once_ordered_by_seed() -> None:
    planned = cells(quick=False)
    assert len(SEEDS) >= 10
    assert len(planned) == len({cell.run_id for cell in planned})
    assert len(planned) == len(POOLS) * len(FEATURES) * len(STRATEGIES) * len(SEEDS)
    seeds = [cell.seed for cell in planned if cell.pool == "mnist-4000"]
    assert seeds == sorted(seeds)


def test_the_quick_plan_is_a_subset_of_the_whole_plan() -> None:
    quick = cells(quick=True)
    assert set(quick) < set(cells(quick=False))
    assert {cell.strategy for cell in quick} == {DEFAULT, RANDOM}
    assert {cell.pool for cell in quick} == {"mnist-4000"}
    assert len({cell.seed for cell in quick}) == 3


def test_runs_are_chosen_by_words_in_their_names() -> None:
    found = list(chosen(cells(quick=False), "mnist-60000 patches badge"))
    assert {(cell.pool, cell.features, cell.strategy) for cell in found} == {("mnist-60000", "patches", "badge")}
    assert list(chosen(found, "nothing like it")) == []


def test_texts_are_part_of_the_study_and_are_chosen_by_the_same_words() -> None:
    loops = [loop for stage in stages(quick=False, only="") for loop in stage]
    assert {loop.pool for loop in loops} == {*SETS}
    assert {loop.seed for loop in loops} == {*SEEDS}
    assert {DEFAULT, RANDOM} < {loop.strategy for loop in loops if loop.library == OURS}
    quick = [loop for stage in stages(quick=True, only="") for loop in stage]
    assert {loop.library for loop in quick} == {OURS}
    assert {loop.strategy for loop in quick} == {DEFAULT, RANDOM}
    assert len({loop.seed for loop in quick}) == 3
    [stage] = stages(quick=True, only="texts reuters random")
    assert {(loop.pool, loop.strategy) for loop in stage} == {("reuters-r8", RANDOM)}
    assert stages(quick=False, only="mnist-4000 patches badge") == []


async def test_texts_that_are_not_to_be_had_are_named_and_the_others_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried: list[str] = []

    async def carried_out(sets: object, planned: list[list[Loop]]) -> None:
        carried.extend(loop.pool for stage in planned for loop in stage)
        (tmp_path / "bench").mkdir()
        (tmp_path / "bench" / "table.md").write_text("| texts |")

    monkeypatch.setattr(study_of_texts, "text_sets", lambda: ({"reuters-r8": None}, {"20newsgroups": "no network"}))
    monkeypatch.setattr(bench_of_texts, "carried_out", carried_out)
    monkeypatch.setattr(bench_of_texts, "FOLDER", tmp_path / "bench")
    said = io.StringIO()
    await study_texts(stages(quick=True, only=""), tmp_path / "study", Console(file=said, width=200))
    assert {*carried} == {"reuters-r8"}
    assert "20newsgroups is left out: no network" in said.getvalue()
    assert (tmp_path / "study" / "texts.md").read_text() == "| texts |"


def test_the_spec_of_a_run_follows_its_cell_and_has_no_control_samples() -> None:
    made = spec(Cell("mnist-4000", "patches", "k-center", 7))
    assert (made.seed, made.label_budget, made.control_percent) == (7, max(AT), 0)
    assert (made.strategy, made.first_strategy) == (Strategy.STRATEGY_K_CENTER, Strategy.STRATEGY_K_CENTER)
    assert (made.features, made.dataset.sample_limit) == (FeatureKind.FEATURE_KIND_PATCHES, 4_000)
    assert spec(Cell("mnist-60000", "pixels", "margin", 1)).dataset.sample_limit == 0
    assert spec(Cell("mnist-60000", "pixels", "margin", 1)).first_strategy == Strategy.STRATEGY_K_MEANS
    assert made.first_batch_size + (ROUNDS - 1) * made.batch_size == max(AT)


@pytest.mark.parametrize(
    ("accuracy", "labels"),
    [(0.4, 50.0), (0.5, 50.0), (0.6, 75.0), (0.7, 100.0), (0.75, 162.5), (0.8, 200.0), (0.81, None)],
)
def test_labels_needed_are_interpolated_on_the_curves_running_maximum(accuracy: float, labels: float | None) -> None:
    curve = [(50, 0.5), (100, 0.7), (125, 0.6), (200, 0.8)]
    assert labels_needed(curve, accuracy) == (None if labels is None else pytest.approx(labels))


def curves_of(chosen_ends: list[float], random_ends: list[float]) -> Curves:
    """Return straight curves from 0.5 at 0 labels to the ends at 400."""

    def curve(end: float) -> list[tuple[int, float]]:
        return [(labels, 0.5 + (end - 0.5) * labels / 400) for labels in AT]

    return {
        name: {seed: curve(end) for seed, end in enumerate(ends)}
        for name, ends in ((DEFAULT, chosen_ends), (RANDOM, random_ends))
    }


def test_labels_saved_are_random_labels_not_needed_for_the_same_accuracy() -> None:
    found = savings(curves_of([0.9, 0.9], [0.7, 0.7]))  # twice as steep
    assert [(each.of, round(each.saved)) for each in found] == [(100, 50), (200, 100), (400, 200)]
    assert [(round(each.low), round(each.high)) for each in found] == [(50, 50), (100, 100), (200, 200)]
    (uneven,) = savings(curves_of([0.9, 0.7], [0.7, 0.7]))[-1:]
    assert [uneven.saved, uneven.low, uneven.high] == pytest.approx([100, 0, 200])


def test_an_accuracy_that_is_never_reached_saves_nothing_and_is_reported() -> None:
    (end,) = savings(curves_of([0.9, 0.6], [0.7, 0.7]))[-1:]
    assert (end.short, end.seeds) == (1, 2)
    assert end.saved == pytest.approx(100)
    assert "never in 1 of them" in sentences([end], [])[0]


def test_seeds_are_counted_in_which_fewer_chosen_labels_beat_random_ones() -> None:
    found = beaten(curves_of([0.9, 0.7, 0.95], [0.7, 0.7, 0.7]))
    assert found == [Beaten(50, 400, 0, 3), Beaten(100, 400, 0, 3), Beaten(200, 400, 1, 3)]
    said = "Chosen labels beat 400 drawn at random: 50 in 0, 100 in 0, 200 in 1 of 3 seeds."
    assert sentences([], found) == [said]


def test_no_saving_is_claimed_from_one_strategy_or_one_seed() -> None:
    assert savings(curves_of([0.9], [0.7])) == []
    assert savings(curves_of([0.9, 0.9], [])) == []
    assert beaten(curves_of([], [0.7])) == []
    half = curves_of([0.9, 0.9], [0.7, 0.7])
    half[RANDOM][0] = half[RANDOM][0][:-1]
    assert [each.of for each in savings(half)] == [100, 200]


def rows() -> list[Row]:
    ends = {DEFAULT: [0.9, 0.92, 0.94], RANDOM: [0.7, 0.7, 0.7]}
    made = curves_of(ends[DEFAULT], ends[RANDOM])
    return [
        row
        for features in FEATURES
        for strategy, seeds in made.items()
        for seed, curve in seeds.items()
        for row in rows_of(Cell("mnist-4000", features, strategy, seed), curve)
    ]


def test_a_table_has_mean_and_spread_and_lists_the_best_strategy_first() -> None:
    found = groups(rows())
    assert [(pool, features) for pool, features, _ in found] == [
        ("mnist-4000", features) for features in ("scattering", "patches", "pixels")
    ]
    _, _, curves = found[0]
    first, second = table(curves)
    assert (first["strategy"], first["seeds"], second["strategy"]) == (DEFAULT, 3, RANDOM)
    assert first["at"][400] == (pytest.approx(0.92), pytest.approx(0.02))
    assert second["at"][50] == (pytest.approx(0.525), 0)


def test_the_page_and_the_terminal_show_the_same_results() -> None:
    text = io.StringIO()
    tell(rows(), Console(file=text, width=160))
    shown, page = text.getvalue(), study_page.page(rows(), whole=True)
    for _, _, curves in groups(rows()):
        for sentence in sentences(savings(curves), beaten(curves)):
            assert sentence in shown
            assert sentence in page
    for mean, spread in (("92.00", "2.00"), ("70.00", "0.00")):
        assert shown.count(f"{mean} ±{spread}") == page.count(f"{mean} ± {spread}") == len(FEATURES)
    assert page.count("<svg") == len(FEATURES)
    assert "Not all of the study" not in page
    assert "Not all of the study" in study_page.page(rows()[:8], whole=False)


def test_a_band_of_the_page_is_one_sample_standard_deviation() -> None:
    page = study_page.page(rows()[: len(rows()) // len(FEATURES)], whole=False)
    [svg] = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    found, colour = Drawing(svg), style(STRATEGIES.index(DEFAULT))[0]
    [band] = found.areas(colour)
    point = (found.text("90").y - found.text("95").y) / 5  # of accuracy, on the y axis
    end = max(x for x, _ in band)
    edges = sorted(y for x, y in band if x == end)
    assert (edges[-1] - edges[0]) / point == pytest.approx(2 * 2.0, abs=0.1)


class Interrupted(Exception):
    """Raised by a run to interrupt the study."""


PLANNED = cells(quick=True)


async def test_an_interrupted_study_keeps_its_rows_and_continues_from_there(tmp_path: Path) -> None:
    results, quiet = tmp_path / "results.json", Console(file=io.StringIO())
    begun: list[str] = []

    async def some(cell: Cell, told: Tell) -> list[Row]:
        begun.append(cell.run_id)
        if len(begun) > 5:
            raise Interrupted
        told(1)
        await asyncio.sleep(0)
        return rows_of(cell, [(50, 0.5), (400, 0.9)])

    with pytest.raises(ExceptionGroup):
        await work(some, PLANNED, [], results, quiet)
    kept = read_rows(results)
    ended = {(row["features"], row["strategy"], row["seed"]) for row in kept}
    assert 0 < len(ended) <= 5
    assert len(kept) == 2 * len(ended)
    left = left_of(PLANNED, kept)
    assert len(left) == len(PLANNED) - len(ended)

    again: list[Cell] = []

    async def rest(cell: Cell, told: Tell) -> list[Row]:
        again.append(cell)
        return rows_of(cell, [(50, 0.6), (400, 0.8)])

    await work(rest, left, list(kept), results, quiet)
    assert again == left
    whole = read_rows(results)
    assert whole[: len(kept)] == kept
    assert left_of(PLANNED, whole) == []
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


async def test_progress_counts_rounds_and_names_finished_runs(tmp_path: Path) -> None:
    text = io.StringIO()
    terminal = Console(file=text, force_terminal=True, width=160)

    async def one(cell: Cell, told: Tell) -> list[Row]:
        for round_ in (1, 2, 2):
            told(round_)
        return rows_of(cell, [(400, 0.9)])

    await work(one, PLANNED[:2], [], tmp_path / "results.json", terminal)
    assert f"{2 * ROUNDS}/{2 * ROUNDS}" in text.getvalue()
    assert f"{PLANNED[1].run_id}: 90.00 %" in text.getvalue()


def test_a_missing_file_of_results_holds_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "results.json") == []
    (tmp_path / "results.json").write_text(json.dumps(rows()))
    assert read_rows(tmp_path / "results.json") == rows()
