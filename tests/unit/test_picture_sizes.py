"""Settings of pictures, and the size and colours that are chosen for them."""

from __future__ import annotations

from typing import Any

import pytest
from labelloop.errors import InvalidInput
from labelloop.events.v1.events_pb2 import ImageFit

from oracle_svc.datasets import DatasetSource
from oracle_svc.datasets.picture_file import PictureHeader
from oracle_svc.datasets.picture_settings import PictureSettings, picture_settings
from oracle_svc.datasets.picture_size import PicturePlan, default_size, plan_of


def header(width: int = 4, height: int = 3, **declared: bool) -> PictureHeader:
    return PictureHeader(width, height, **({"grey": True, "transparent": False, "animated": False} | declared))


def test_settings_have_defaults() -> None:
    assert picture_settings(DatasetSource("pictures")) == PictureSettings(
        size=None, fit=ImageFit.IMAGE_FIT_PAD, background=(255, 255, 255), skip_bad=False, in_colour=False
    )


def test_settings_are_parsed() -> None:
    source = DatasetSource("pictures", size="64x48", fit=ImageFit.IMAGE_FIT_CROP, background="#0aFF10", skip_bad=True)
    assert picture_settings(source) == PictureSettings((64, 48), ImageFit.IMAGE_FIT_CROP, (10, 255, 16), skip_bad=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            ("size", text)
            for text in ("64", "64x", "0x64", "64x0", "-1x5", "64x64x3", "4097x1", "1e3x5", "٣x٣", "x" * 99)
        ),
        *(("background", text) for text in ("white", "#fff", "ffffff", "#gggggg", "#1234567", "#ff ff ff")),
        ("fit", 99),
    ],
)
def test_other_settings_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        picture_settings(DatasetSource("pictures", **{field: value}))
    assert caught.value.field == field
    assert caught.value.reason == f"PICTURE_{field.upper()}"
    assert all(text in caught.value.message for text in caught.value.values.values())


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(4032, 3024)] * 3, (4032, 3024)),  # of one size: nothing has to be fitted
        ([(30, 20)] * 3 + [(9, 9)] * 2, (30, 20)),
        ([(30, 20)] * 2 + [(9, 9)] * 2, (9, 9)),  # as frequent: the smaller
        ([(4032, 3024)] * 2 + [(9, 9)], (128, 96)),
        ([(3024, 4032)] * 2 + [(9, 9)], (96, 128)),
        ([(10_000, 2)] * 2 + [(9, 9)], (128, 1)),
        ([(16, 16), (40, 30), (60, 50)], (40, 30)),  # no two alike: the medians
        ([(500, 400), (300, 200), (16, 16)], (128, 85)),
        ([(16, 16)] * 2 + [(40 + index, 30) for index in range(19)], (48, 30)),  # two of 21 say little
    ],
)
def test_the_default_size_is_the_most_frequent_one(sizes: list[tuple[int, int]], expected: tuple[int, int]) -> None:
    assert default_size(sizes) == expected
    assert default_size(sizes[::-1]) == expected


def test_one_coloured_picture_makes_all_coloured() -> None:
    assert plan_of([header(), header()], PictureSettings()) == PicturePlan((4, 3), in_colour=False)
    assert plan_of([header(), header(grey=False)], PictureSettings()) == PicturePlan((4, 3), in_colour=True)
    assert plan_of([header()], PictureSettings(in_colour=True)) == PicturePlan((4, 3), in_colour=True)


def test_a_coloured_background_makes_pictures_coloured_where_it_shows() -> None:
    red = PictureSettings(background=(255, 0, 0))
    assert not plan_of([header()], red).in_colour
    assert plan_of([header(transparent=True)], red).in_colour
    assert plan_of([header(), header(), header(9, 9)], red).in_colour
    assert not plan_of([header(transparent=True)], PictureSettings(background=(9, 9, 9))).in_colour


def test_a_size_that_is_asked_for_is_taken() -> None:
    assert plan_of([header()], PictureSettings(size=(9, 8))).size == (9, 8)
    assert plan_of([header()], PictureSettings(size=(9, 8))).shape_of(5) == (5, 8, 9)
    assert plan_of([header(grey=False)], PictureSettings()).shape_of(5) == (5, 3, 4, 3)
