"""Every chart of the reports, with ordinary, few and invalid values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from labelloop.domain.proportion import Proportion
from labelloop_cli.load.calls import Outcomes
from labelloop_cli.reporting import charts, run_charts
from labelloop_cli.reporting.charts import COLOURS, style
from labelloop_cli.reporting.run_charts import Watched
from labelloop_cli.reporting.svg.panels import NOTHING

from tests.load.charts import latency_and_throughput
from tests.load.results import Result
from tests.svg_reading import Drawing

NAN, INF = float("nan"), float("inf")
LABELS = [50, 100, 200]
VALUES = [0.6, 0.8, 0.9]
REACH = np.geomspace(10, 2_400, 20)
LONG = "accuracy on control samples, lower bound over all looks (target 0.95), over and over again"


def outcomes(*statuses: str) -> Outcomes:
    made = Outcomes()
    for each, status in enumerate(statuses):
        made.add(0.3 * each, 0.001 * (each + 1), status)
    return made


def load(*made: Outcomes) -> str:
    return latency_and_throughput(
        [Result("name", mode, outcomes=each) for mode, each in zip(("closed", "open"), made, strict=False)]
    )


def curves(count: int) -> dict[str, list[float]]:
    return {f"name {each}": [value - each / 100 for value in VALUES] for each in range(count)}


CHARTS: dict[str, Callable[[], str]] = {
    "learning": lambda: charts.learning_curves(
        {"ours": (LABELS, [VALUES, VALUES[::-1]]), "theirs": (LABELS, [VALUES])}
    ),
    "rounds": lambda: charts.rounds_curve(LABELS, curves(2)),
    "rounds, many": lambda: charts.rounds_curve(LABELS, curves(14)),
    "confidences": lambda: charts.confidence_curves({"ours": np.linspace(0, 1, 5_000).tolist(), "theirs": [0.5]}),
    "distribution": lambda: charts.distribution([0.84, 0.84, 0.86], ours=0.8625, published=0.8975),
    "distribution, one": lambda: charts.distribution([0.86], ours=0.86, published=None),
    "interval": lambda: run_charts.interval_curve(LABELS, VALUES, [0.5, 0.7, 0.8], [0.7, 0.9, 1], "labels"),
    "interval, one": lambda: run_charts.interval_curve([1], [1.0], [0.9], [1.0], "labels and auto-labels"),
    "saved": lambda: run_charts.saved_curve(
        list(zip(LABELS, VALUES, strict=True)),
        [(10, Proportion(4, 10)), (20, Proportion(50, 100))],
        REACH,
        1 - REACH**-0.4,
        1 - REACH**-0.3,
    ),
    "reliability": lambda: run_charts.reliability([0.2, 0.25, 0.9, 1.0], [False, True, True, True]),
    "calibration": lambda: run_charts.calibration_curves({"evaluation set": [(50, 0.1), (100, 0.05)]}),
    "calibration, one": lambda: run_charts.calibration_curves({"evaluation set": [(50, 0.1)]}),
    "stopping": lambda: run_charts.stopping_curves(
        [Watched(LONG, [(50, 0.5), (100, 0.7)], 0.95), Watched("agreement", [(100, 0.9)])], 100
    ),
    "stopping, nothing yet": lambda: run_charts.stopping_curves([Watched(LONG, [], 0.9)], None),
    "shares": lambda: run_charts.class_shares(["cat", "dog"], {"labels": [0.3, 0.7], "pool": [0.5, 0.5]}),
    "shares, one": lambda: run_charts.class_shares(["cat"], {"labels": [1.0]}),
    "shares, many": lambda: run_charts.class_shares(
        [f"class {each} of many" for each in range(100)], {"labels": [0.01] * 100, "pool": [0.01] * 100}
    ),
    "load": lambda: load(outcomes("OK", "OK", "OK"), outcomes("OK", "UNAVAILABLE", "OK", "OK", "UNAVAILABLE")),
    "load, one call": lambda: load(outcomes("OK")),
    "load, all refused": lambda: load(outcomes("UNAVAILABLE", "UNAVAILABLE")),
}


@pytest.mark.parametrize("name", CHARTS)
def test_texts_do_not_overlap_and_all_marks_are_within_the_chart(name: str) -> None:
    svg = CHARTS[name]()
    assert Drawing(svg).faults() == []
    assert svg == CHARTS[name]()


@pytest.mark.parametrize(
    "make",
    [
        lambda: charts.learning_curves({}),
        lambda: charts.learning_curves({"ours": ([], []), "theirs": (LABELS, [])}),
        lambda: charts.rounds_curve([], {"ours": []}),
        lambda: charts.confidence_curves({"ours": [NAN]}),
        lambda: charts.distribution([], ours=0.5, published=None),
        lambda: run_charts.interval_curve([], [], [], [], "labels"),
        lambda: run_charts.saved_curve([], [], REACH[:0], REACH[:0], REACH[:0]),
        lambda: run_charts.calibration_curves({}),
        lambda: run_charts.stopping_curves([], None),
        lambda: run_charts.class_shares([], {}),
        lambda: run_charts.class_shares(["cat"], {"labels": [NAN]}),
    ],
)
def test_charts_without_values_say_so(make: Callable[[], str]) -> None:
    found = Drawing(make())
    assert found.text(NOTHING)
    assert found.faults() == []


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: charts.learning_curves({"ours": (LABELS, [[0.1, INF, 0.2], [0.1, 0.2, 0.3]])}), 3),
        (lambda: charts.rounds_curve(LABELS, {"ours": [0.1, NAN, 0.2]}), 1),
        (lambda: run_charts.reliability([0.2, NAN, 0.9], [True, True, False]), 1),
        (lambda: run_charts.calibration_curves({"ours": [(50, NAN), (100, 0.1)]}), 1),
    ],
)
def test_charts_state_how_many_values_they_leave_out(make: Callable[[], str], count: int) -> None:
    found = Drawing(make())
    (said,) = [text.said for text in found.texts if "no place here" in text.said]
    assert said.startswith(f"{count} value")
    assert found.faults() == []


def test_a_learning_curve_is_a_mean_in_a_band_of_one_standard_deviation() -> None:
    found = Drawing(charts.learning_curves({"ours": (LABELS, [[0.5, 0.6, 0.7], [0.7, 0.8, 0.9]])}))
    mean, _ = sorted(found.paths(COLOURS[0]), key=len, reverse=True)  # the other is in the legend
    (band,) = found.areas(COLOURS[0])
    unit = (mean[0][1] - mean[2][1]) / 20  # a point of accuracy
    spread = 100 * float(np.std([0.5, 0.7], ddof=1))
    assert [mean[0][1] - band[0][1], band[-1][1] - mean[0][1]] == pytest.approx([spread * unit] * 2, abs=0.3)


def test_runs_of_equal_accuracy_are_stacked() -> None:
    found = Drawing(charts.distribution([0.84, 0.84, 0.86], ours=0.85, published=0.9))
    first, second, third = found.dots(COLOURS[0])
    assert first[0] == second[0] < third[0]
    assert second[1] < first[1] == third[1]
    assert [text.said for text in found.texts[:2]] == ["unperturbed run: 85.00", "published: 90.00"]


def test_reliability_is_the_accuracy_in_each_tenth_of_confidence() -> None:
    found = Drawing(run_charts.reliability([0.81, 0.89, 0.31], [True, False, True]))
    (few, right), (more, half) = found.dots(COLOURS[0])
    assert few < more
    assert right < half
    radii = [float(each.attrib["r"]) for each in found.all("circle")]
    assert radii[0] < radii[1]
    assert len(found.paths(COLOURS[0])) == 2


def test_a_stopping_rule_has_its_own_panel_and_the_stop_is_in_all() -> None:
    found = Drawing(run_charts.stopping_curves([Watched("a", [(5, 0.5)], 0.9), Watched("b", [(9, 0.1)])], 9))
    legend = 1
    assert len(found.paths(COLOURS[1])) == 2 + legend
    assert len(found.paths(charts.PALE)) == 1 + legend
    assert [text.said for text in found.texts if text.said in ("stopped", "where the rule holds")]


def test_the_30_classes_with_most_labels_are_shown_in_class_order() -> None:
    shares = [each / 1_000 for each in range(40)]
    found = Drawing(run_charts.class_shares([f"c{each}" for each in range(40)], {"labels": shares, "pool": shares}))
    assert [text.said for text in found.texts if text.said.startswith("c")] == [f"c{each}" for each in range(10, 40)]
    heights = [height for *_, height in found.bars(COLOURS[1])][1:]  # the first is in the legend
    assert heights == sorted(heights)


def test_all_curves_are_drawn_and_have_distinct_styles() -> None:
    found = Drawing(charts.rounds_curve(LABELS, curves(14)))
    assert {f"name {each}" for each in range(14)} <= {text.said for text in found.texts}
    assert len({style(each) for each in range(30)}) == 30


def test_latency_is_drawn_for_each_loop_and_refused_calls_separately() -> None:
    found = Drawing(CHARTS["load"]())
    said = {text.said for text in found.texts}
    assert {"closed loop, answered OK", "open loop, answered OK", "open loop, refused", "all", "half"} <= said
    assert latency_and_throughput([Result("name", "open")]) == ""
