"""Fitting of single pictures: proportions, reduction while decoding, and extremes."""

from __future__ import annotations

from io import BytesIO

import pytest
from labelloop.events.v1.events_pb2 import ImageFit
from PIL import Image

from oracle_svc.datasets.fitting import fitted, reduce_jpeg, scaled_size
from oracle_svc.datasets.picture_settings import PictureSettings

PAD, CROP, STRETCH = ImageFit.IMAGE_FIT_PAD, ImageFit.IMAGE_FIT_CROP, ImageFit.IMAGE_FIT_STRETCH


@pytest.mark.parametrize(
    ("size", "fit", "expected"),
    [
        ((200, 100), PAD, (50, 25)),
        ((100, 200), PAD, (20, 40)),
        ((200, 100), CROP, (80, 40)),
        ((100, 200), CROP, (50, 100)),
        ((200, 100), STRETCH, (50, 40)),
        ((5, 4), PAD, (50, 40)),
        ((5, 4), CROP, (50, 40)),
        ((9_000, 1), PAD, (50, 1)),
        ((100, 5), PAD, (50, 3)),  # halves are rounded up
    ],
)
def test_proportions_are_kept_unless_stretched(
    size: tuple[int, int], fit: ImageFit.ValueType, expected: tuple[int, int]
) -> None:
    assert scaled_size(size, (50, 40), fit) == expected


def jpeg(width: int, height: int, orientation: int = 1) -> Image.Image:
    exif, output = Image.Exif(), BytesIO()
    exif[0x0112] = orientation
    Image.new("RGB", (width, height)).save(output, "JPEG", exif=exif)
    return Image.open(output)


@pytest.mark.parametrize(
    ("size", "orientation", "fit", "decoded"),
    [
        ((1600, 800), 1, PAD, (200, 100)),  # 50x25 are needed, so an eighth is enough
        ((800, 1600), 6, PAD, (100, 200)),  # the same, on its side
        ((400, 200), 1, PAD, (100, 50)),
        ((399, 200), 1, PAD, (200, 100)),  # a quarter would be less than twice what is needed
        ((1600, 400), 1, CROP, (400, 100)),
        ((99, 79), 1, STRETCH, (99, 79)),
        ((50, 40), 1, PAD, (50, 40)),
    ],
)
def test_jpeg_is_decoded_at_no_less_than_twice_the_pixels_needed(
    size: tuple[int, int], orientation: int, fit: ImageFit.ValueType, decoded: tuple[int, int]
) -> None:
    with jpeg(*size, orientation) as image:
        reduce_jpeg(image, (50, 40), fit)
        image.load()
        assert image.size == decoded


@pytest.mark.parametrize("fit", [PAD, CROP, STRETCH])
@pytest.mark.parametrize("size", [(1, 50_000), (50_000, 1), (1, 1)])
def test_pictures_of_extreme_proportions_are_fitted(size: tuple[int, int], fit: ImageFit.ValueType) -> None:
    image = fitted(Image.new("L", size, 7), (64, 48), PictureSettings(fit=fit))
    assert image.size == (64, 48)
    assert image.getpixel((31, 23)) == 7


def test_a_picture_of_the_size_is_returned_as_it_is() -> None:
    image = Image.new("RGB", (64, 48))
    assert fitted(image, (64, 48), PictureSettings()) is image
