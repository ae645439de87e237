"""Charts as SVG: positions of marks and texts, and descriptions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from labelloop_cli.reporting.svg.axes import Axis
from labelloop_cli.reporting.svg.marks import Band, Bars, Dots, Line, Mark, Rule, Spans
from labelloop_cli.reporting.svg.markup import text_width, wrapped
from labelloop_cli.reporting.svg.panels import NOTHING, Panel
from labelloop_cli.reporting.svg.picture import picture
from PIL import ImageFont

from tests.svg_reading import Drawing

RED, BLUE, GREEN = "#c00000", "#0000c0", "#00c000"
NAN, INF = float("nan"), float("inf")


def drawn(*marks: Mark, x: Axis | None = None, y: Axis | None = None, title: str = "") -> Drawing:
    panel = Panel(marks, x or Axis("labels"), y or Axis("accuracy, %"), title)
    found = Drawing(picture("What is shown", [panel], width=432))
    assert found.faults() == []
    return found


def test_points_are_at_the_ticks_of_their_values() -> None:
    found = drawn(Line([100, 140, 200], [60, 70, 90], RED))
    (places,) = found.paths(RED)
    for (x, y), label, accuracy in zip(places, ("100", "140", "200"), ("60", "70", "90"), strict=True):
        assert x == pytest.approx(found.text(label).x, abs=0.1)
        assert y == pytest.approx(found.text(accuracy).y - 0.35 * 11, abs=0.1)


def test_equal_factors_take_equal_space_on_a_logarithmic_axis() -> None:
    found = drawn(Line([10, 100, 1_000], [1, 2, 3], RED), x=Axis("labels", log=True))
    (((a, _), (b, _), (c, _)),) = found.paths(RED)
    assert b - a == pytest.approx(c - b, abs=0.1)
    assert [found.text(each).x for each in ("10", "100", "1,000")] == pytest.approx([a, b, c], abs=0.1)


def test_a_reversed_axis_runs_from_high_to_low() -> None:
    found = drawn(Line([1, 0.1, 0.01], [1, 2, 3], RED), x=Axis("share", log=True, reverse=True))
    ((*_, (last, _)),) = found.paths(RED)
    assert found.text("1").x < found.text("0.1").x < found.text("0.01").x == pytest.approx(last, abs=0.1)


def test_a_band_lies_between_its_curves() -> None:
    found = drawn(Band([0, 10], [20, 40], [60, 80], BLUE), Line([0, 10, 10, 0], [60, 80, 40, 20], RED))
    assert found.areas(BLUE) == found.paths(RED)


def test_bands_are_drawn_below_lines() -> None:
    found = drawn(Line([0, 1], [0, 1], RED), Band([0, 1], [0, 0], [1, 1], BLUE))
    colours = [each.get("fill") if each.get("fill") == BLUE else each.get("stroke") for each in found.all("path")]
    assert [colour for colour in colours if colour in (RED, BLUE)] == [BLUE, RED]


def test_bars_start_at_zero_and_are_as_high_as_their_values() -> None:
    names = Axis(names=["cat", "dog", "owl"])
    found = drawn(Bars([0, 1, 2], [10, 20, 0], 0.4, RED, offset=-0.2), Bars([0, 1, 2], [5, 5, 5], 0.4, BLUE), x=names)
    (one, two, none), (other, *_) = found.bars(RED), found.bars(BLUE)
    assert (two[3], none[3]) == pytest.approx((2 * one[3], 0), abs=0.2)
    assert {round(top + height, 1) for _, top, _, height in found.bars(RED)} == {round(one[1] + one[3], 1)}
    assert other[0] - one[0] == pytest.approx(one[2] / 2, abs=0.2)
    assert two[0] + two[2] == pytest.approx(found.text("dog").x, abs=0.2)


def test_spans_and_rules_lie_at_their_values() -> None:
    found = drawn(Dots([10, 20], [5, 8], RED), Spans([10], [5], [8], BLUE), Rule("x", 20, GREEN), Rule("y", 8, GREEN))
    (low, high), ((x, bottom), (_, top)) = found.dots(RED), found.paths(BLUE)[0]
    assert ((x, bottom), top) == (low, high[1])
    upright, level = found.paths(GREEN)
    assert {x for x, _ in upright} == {high[0]}
    assert {y for _, y in level} == {high[1]}


def test_axes_extend_to_rules_outside_the_data() -> None:
    found = drawn(Line([1, 2], [1, 2], RED), Rule("y", 9, GREEN), Rule("x", 30, GREEN))
    assert len(found.paths(GREEN)) == 2


def test_a_line_is_broken_at_missing_values_and_their_number_is_stated() -> None:
    found = drawn(Line([1, 2, 3, 4, 5, 6], [1, 2, NAN, 4, INF, 6], RED))
    assert [len(path) for path in found.paths(RED)] == [2]
    assert len(found.dots(RED)) == 2
    assert found.text("2 values have no place here: not finite, or not above 0")


def test_values_not_above_0_are_left_out_on_a_logarithmic_axis() -> None:
    found = drawn(Line([0, 1, 10], [1, 2, 3], RED), x=Axis(log=True))
    assert [len(path) for path in found.paths(RED)] == [2]
    assert found.text("1 value has no place here: not finite, or not above 0")


def test_a_rule_without_a_finite_value_is_stated_as_left_out() -> None:
    found = drawn(Line([1, 2], [1, 2], RED), Rule("y", NAN, GREEN))
    assert found.paths(GREEN) == []
    assert found.text("1 value has no place here: not finite, or not above 0")


@pytest.mark.parametrize("values", [[], [NAN], [NAN, INF]])
def test_a_picture_without_values_says_so(values: list[float]) -> None:
    found = drawn(Line(range(len(values)), values, RED, "accuracy"), Rule("y", 1, GREEN, "target"))
    assert found.text(NOTHING)
    assert "accuracy" not in {text.said for text in found.texts}
    assert "Nothing measured yet." in found.said("desc")
    assert Drawing(picture("None", [], width=432)).text(NOTHING)


def test_a_single_point_and_its_band_are_visible() -> None:
    found = drawn(Line([50], [80], RED), Band([50], [70], [90], BLUE))
    ((x, y),), (area,) = found.dots(RED), found.areas(BLUE)
    assert x == pytest.approx(found.text("50").x, abs=0.1)
    assert min(each for _, each in area) < y < max(each for _, each in area)
    assert min(each for each, _ in area) < x < max(each for each, _ in area)


def test_the_legend_names_each_mark_once_in_order_above_the_data() -> None:
    marks: list[Mark] = [Line([1, 2], [3, 4], RED, "ours"), Line([1, 2], [4, 3], BLUE), Dots([1], [9], GREEN, "theirs")]
    panels = [Panel(marks, Axis("labels"), Axis("accuracy")) for _ in range(2)]
    found = Drawing(picture("Both", panels, width=600, beside=True))
    assert [text.said for text in found.texts[:2]] == ["ours", "theirs"]
    assert [text.said for text in found.texts].count("ours") == 1
    legend = max(y for text in found.texts[:2] for _, y in text.corners)
    assert legend < min(y for _, y in found.paths(BLUE)[0])
    assert len(found.dots(GREEN)) == 3  # one of them in the legend


def test_a_long_legend_wraps_into_rows_and_shortens_long_names() -> None:
    lines = [Line([1, 2], [each, each], RED, f"strategy number {each}") for each in range(9)]
    found = drawn(*lines, Line([1, 2], [1, 1], BLUE, "w" * 90))
    assert len({text.y for text in found.texts if text.said.startswith("strategy")}) > 2
    assert next(text.said for text in found.texts if text.said.startswith("ww")).endswith("w…")


def test_texts_are_escaped() -> None:
    hostile = """<script>alert("x")</script> & 'so' \x00\x1b"""
    found = drawn(
        Line([1, 2], [1, 2], RED, hostile), x=Axis(hostile), y=Axis(hostile), title=hostile
    )  # that it parses is half of the test
    shown = hostile.replace("\x00", "\ufffd").replace("\x1b", "\ufffd")
    assert [text.said for text in found.texts].count(shown) == 4
    assert list(found.all("script")) == []
    named = drawn(Bars([0], [1], 0.5, RED), x=Axis(names=["<i>"]))
    assert named.text("<i>")


def test_equal_values_give_the_same_svg_whatever_their_container_type() -> None:
    x, y = [1.0, 2.0, 3.0], [0.1, 0.2, 0.7]
    lines = [Line(x, y, RED), Line(tuple(x), tuple(y), RED), Line([*np.array(x)], [*np.array(y)], RED)]
    texts = {picture("Same", [Panel([line], Axis(), Axis())], width=400) for line in lines}
    assert len(texts) == 1


def test_a_picture_has_no_ids_and_takes_width_font_and_colour_of_its_page() -> None:
    svg = picture("One", [Panel([Line([1, 2], [3, 4], RED, "ours")], Axis(), Axis())], width=400)
    root = Drawing(svg).root
    assert {"id", "width", "height", "font-family"} & {key for each in root.iter() for key in each.attrib} == set()
    assert root.attrib["fill"] == "currentColor"


def test_a_picture_has_a_title_and_a_description_of_its_values() -> None:
    found = drawn(
        Line([50, 100], [60.123, 1_234.5], RED, "ours"), Line(range(100), [*range(100)], BLUE, "theirs"),
        Band([50], [58], [62.5], BLUE, "interval"), Rule("y", 90, GREEN, "target"), title="On digits",
    )  # fmt: skip
    assert found.root.attrib["role"] == "img"
    assert found.said("title") == "What is shown"
    assert found.said("desc") == (
        "On digits. accuracy, % by labels. ours: 60.12 at 50, 1,234 at 100. "
        "theirs: 100 points, from 0 at 0 to 99 at 99, least 0 at 0, greatest 99 at 99. "
        "interval: 58 to 62.5 at 50. target: at 90."
    )
    assert "2 at dog" in drawn(Bars([0, 1], [1, 2], 0.5, RED), x=Axis(names=["cat", "dog"])).said("desc")


def test_stacked_panels_share_their_x_axis() -> None:
    panels = [
        Panel([Line([10, 20], [1, 2], RED)], Axis(), Axis(), "first"),
        Panel([Line([20, 30], [1_000, 2_000], BLUE), Rule("x", 20, GREEN)], Axis("labels"), Axis(), "second"),
    ]
    found = Drawing(picture("Both", panels, width=432))
    assert found.faults() == []
    assert found.text("first").y < found.text("second").y
    ((upper,), (lower,)), (rule,) = (found.paths(RED), found.paths(BLUE)), found.paths(GREEN)
    assert upper[1][0] == lower[0][0] == rule[0][0] == pytest.approx(found.text("20").x, abs=0.1)
    assert found.text("10").y > lower[0][1]


def test_the_shared_axis_is_labelled_if_the_last_panel_has_no_values() -> None:
    panels = [Panel([Line([10, 20], [1, 2], RED)], Axis("labels"), Axis()), Panel([], Axis("labels"), Axis(), "later")]
    found = Drawing(picture("Both", panels, width=432))
    assert found.faults() == []
    assert found.text("labels").y > found.text("20").y > found.paths(RED)[0][0][1]
    assert found.text(NOTHING)


def test_long_titles_of_axes_are_shortened_to_fit() -> None:
    found = drawn(Line([1, 2], [1, 2], RED), x=Axis("along the bottom " * 9), y=Axis("upwards " * 20))
    assert [text.said.endswith("…") for text in found.texts if text.said[:5] in ("along", "upwar")] == [True, True]


def test_panels_side_by_side_have_axes_of_their_own() -> None:
    left = Panel([Line([1, 2], [1, 2], RED)], Axis("left"), Axis("up"))
    right = Panel([Line([100, 200], [10_000, 20_000], BLUE)], Axis("right"), Axis("up"))
    found = Drawing(picture("Both", [left, right], width=860, beside=True))
    assert found.faults() == []
    assert max(x for x, _ in found.paths(RED)[0]) < 430 < min(x for x, _ in found.paths(BLUE)[0])


@pytest.mark.parametrize(
    ("names", "turned"),
    [
        ([str(each) for each in range(10)], 0),
        (["aeroplane", "automobile", "bird", "domestic cat", "deer", "dog", "frog", "horse", "ship", "truck"], 45),
        (["an extraordinarily long name of a class, of which only a part is shown"] * 8, 45),
        ([f"class number {each}" for each in range(30)], 90),
        ([f"class number {each}" for each in range(200)], 90),
    ],
)
def test_names_of_categories_are_turned_if_needed_and_never_overlap(names: list[str], turned: int) -> None:
    found = drawn(Bars(range(len(names)), [1.0] * len(names), 0.8, RED), x=Axis(names=names))
    transforms = [each.get("transform", "") for each in found.all("text")]
    assert {f"rotate(-{turned}" in each for each in transforms if each} == ({True} if turned else set())
    hints = [hint for text in found.all("text") for hint in text.itertext()]
    assert all(name in hints for name in names[:1])


def test_tooltips_of_bars_show_category_and_value() -> None:
    found = drawn(Bars([0, 1], [12.345, 2], 0.8, RED), x=Axis(names=["cat", "dog"]))
    assert [each.findtext("{*}title") for each in found.all("rect")] == ["cat: 12.35", "dog: 2"]


@pytest.mark.parametrize("exponent", range(-6, 13))
def test_ticks_of_any_magnitude_do_not_overlap(exponent: int) -> None:
    drawn(Line([10.0**exponent, 3.1 * 10.0**exponent], [-7.7 * 10.0**exponent, 10.0**exponent], RED))


def test_the_text_of_a_tick_without_room_is_left_out() -> None:
    found = drawn(Line([1, 100], [1, 2], RED), x=Axis(texts={1: "all of them", 2: "half of them", 50: "few"}))
    assert found.text("all of them")
    assert "half of them" not in {text.said for text in found.texts}


def test_many_points_are_thinned_but_the_extreme_is_kept() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=20_000).cumsum()
    values[7_777] = 900
    found = drawn(Line(range(20_000), values.tolist(), RED), Dots([7_777], [900], BLUE))
    (places,) = found.paths(RED)
    assert len(places) < 2_000
    assert found.dots(BLUE)[0] in places
    assert min(y for _, y in places) == found.dots(BLUE)[0][1]


TEXTS: Sequence[str] = (
    "accuracy on all test samples, %",
    "labelled samples, by cross-validation",
    "1,234,567.89",
    "QUEUE_EMPTY <b>&</b>",
    "MMMM wwww @@@@ ####",
    "žluťoučký kůň, Straße, ÅÖÜ",
)


@pytest.mark.parametrize("text", TEXTS)
def test_text_widths_are_overestimated_by_at_most_60_percent(text: str) -> None:
    font = ImageFont.load_default(100)
    assert font.getlength(text) <= text_width(text, 100) <= 1.6 * font.getlength(text)


def test_wide_characters_count_as_wide_and_combining_ones_not_at_all() -> None:
    assert text_width("猫", 10) > 10
    assert text_width("e\u0301", 10) == text_width("e", 10)


def test_titles_are_wrapped_at_words() -> None:
    lines = wrapped("accuracy on control samples, lower bound over all looks", 150)
    assert " ".join(lines) == "accuracy on control samples, lower bound over all looks"
    assert all(text_width(line) <= 150 for line in lines)
    assert wrapped("x" * 99, 100)[0].endswith("…")
    assert math.isclose(text_width(""), 0)
