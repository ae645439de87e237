"""The report of runs of many shapes: what it says of accuracy and savings, and how far its charts reach."""

from __future__ import annotations

import re

import pytest

from tests.svg_reading import Drawing
from tests.unit.report_shapes import SHAPES, Shape, page_of

CARD = re.compile(r'<div class="card"><b>(.*?)</b><span>(.*?)</span></div>')
EVERY = pytest.mark.parametrize("name", SHAPES)


def cards(page: str) -> list[tuple[str, str]]:
    return CARD.findall(page)


def words(page: str) -> str:
    """The page without charts, tags and the list of samples."""
    page = re.sub(r"<(svg|style|script|details)\b.*?</\1>", " ", page)
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


@EVERY
def test_no_figure_is_absurd(name: str) -> None:
    page = words(page_of(SHAPES[name], price=0.5))
    assert not re.search(r"\bnan\b|\binf\b|e\+|[-−]\d", page)
    assert not [share for share in re.findall(r"([\d.]+) %", page) if float(share) > 100]


@EVERY
def test_a_saving_and_its_interval_stay_within_the_pool(name: str) -> None:
    shape = SHAPES[name]
    page = page_of(shape)
    of_saving = [each for each in cards(page) if re.search(r"saved|more$", each[0])]
    section = re.search(r"labels reach (.*?)</p>", page)
    for text in (*of_saving, section.groups() if section else ()):
        figures = [
            int(each.replace(",", "")) for each in re.findall(r"\d[\d,]*", re.sub(r"[\d.]+ %", "", " ".join(text)))
        ]
        assert all(figure <= shape.pool for figure in figures), text


@EVERY
def test_charts_are_sound_and_end_at_the_pool(name: str) -> None:
    shape = SHAPES[name]
    for svg in re.findall(r"<svg.*?</svg>", page_of(shape)):
        drawing = Drawing(svg)
        assert drawing.faults() == []
        numbers = [text.said.replace(",", "") for text in drawing.texts]
        assert all(float(each) <= max(shape.pool, 100) for each in numbers if re.fullmatch(r"[\d.]+", each))


@EVERY
def test_accuracy_is_said_with_its_samples(name: str) -> None:
    shape, page = SHAPES[name], page_of(SHAPES[name])
    headline, beside = cards(page)[0]
    controls = round(min(shape.pool, shape.rounds * shape.batch) * shape.control)
    if shape.evaluation:
        assert beside.startswith(f"accuracy (evaluation set, n = {shape.evaluation:,})")
    elif controls:
        assert beside.startswith(f"accuracy ({controls} control sample")
        assert headline.startswith("between") == (controls < 30)
    else:
        assert (headline, "Learning curve" in page) == ("Accuracy not known", False)


@pytest.mark.parametrize(
    ("name", "headline"),
    [
        ("no controls", None),
        ("neither controls nor evaluation", None),
        ("imported labels only", None),
        ("published", None),
        ("three controls", "No saving shown"),
        ("29 controls", "No saving shown"),
        ("30 controls", "No saving shown"),
        ("all right", "No saving shown"),
        ("all right on an evaluation set", "No saving shown"),
        ("all wrong", "No saving shown"),
        ("tiny pool", "No saving shown"),
        ("pool exhausted", "No saving shown"),
        ("cancelled in round 1", "No saving shown"),
        ("a saving", "37,000 saved"),
        ("worse than at random", "745 more"),
    ],
)
def test_a_saving_or_a_loss_is_shown_only_with_evidence(name: str, headline: str | None) -> None:
    found = [each[0] for each in cards(page_of(SHAPES[name])) if re.search(r"saved|more$|saving", each[0])]
    assert found == ([headline] if headline else [])


def test_an_interval_that_allows_both_says_that_controls_do_not_suffice() -> None:
    page = words(page_of(SHAPES["no evaluation"]))
    assert "not enough control samples to tell whether choosing has saved any" in page
    assert re.search(r"between \d+ and 5,000 labels, which is the whole pool \(95 % interval\)", page)


def test_savings_are_worth_what_they_say() -> None:
    said = dict(cards(page_of(SHAPES["a saving"], price=0.5)))
    assert said["37,000 saved"].endswith("12,000 to 57,500, which is all of the others: 18,500.00")


def test_a_bound_is_rounded_down_and_names_its_audit() -> None:
    said = dict(cards(page_of(SHAPES["auto-labels with a guarantee"])))
    assert said["1,000 auto-labels"] == "at least 95.9 % right, says the audit of 280 like them"
    assert "Nothing is auto-labelled" in page_of(SHAPES["an audit that allows nothing"])


def test_classes_of_few_samples_have_a_range_alone() -> None:
    page = page_of(Shape(evaluation=60))
    assert re.search(r"<td>ant</td><td>–</td><td>\d+ to 100 %</td><td>\d+</td><td>20</td>", page)
