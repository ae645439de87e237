"""What people see of a sample's original file."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from labelloop.errors import Corrupt
from PIL import Image

from oracle_svc.samples.encoding import Picture
from oracle_svc.samples.originals import display


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    output = BytesIO()
    image.save(output, format, **options)
    return output.getvalue()


def decoded(picture: Picture) -> Image.Image:
    image = Image.open(BytesIO(picture.content))
    image.load()
    assert picture.media_type == f"image/{(image.format or '').lower()}"
    assert display(picture.content) == picture
    return image


def turned(degrees: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = {0: 1, 90: 6}[degrees]
    return exif


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.RandomState(0).randint(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP"])
def test_what_browsers_show_is_passed_on_unchanged(format: str, mode: str) -> None:
    data = encoded(Image.new(mode, (40, 30)), format)
    assert display(data) == Picture(f"image/{format.lower()}", data)


def test_an_animation_is_passed_on() -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "green")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert display(data).content == data


@pytest.mark.parametrize("format", ["TIFF", "JPEG2000", "TGA", "PCX", "PPM", "ICO"])
def test_other_formats_are_encoded_again(format: str) -> None:
    image = noise(32, 32)
    shown = decoded(display(encoded(image, format)))
    assert shown.size == image.size
    assert shown.format == ("JPEG" if format == "JPEG2000" else "PNG")
    if format in ("TIFF", "TGA", "PCX", "PPM"):
        np.testing.assert_array_equal(np.asarray(shown.convert("RGB")), np.asarray(image))


def test_a_file_of_more_than_4_mib_is_encoded_again() -> None:
    data = encoded(noise(1400, 1100), "PNG")
    assert len(data) > 4 * 1024 * 1024
    shown = display(data)
    assert decoded(shown).size == (1400, 1100)
    assert shown.media_type == "image/jpeg"
    assert len(shown.content) < len(data)


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_picture_of_more_than_4096_pixels_a_side_is_reduced(format: str) -> None:
    assert decoded(display(encoded(Image.new("RGB", (4097, 64)), format))).size == (2048, 32)
    assert decoded(display(encoded(Image.new("RGB", (4096, 64)), format))).size == (4096, 64)


def test_a_photograph_is_turned_where_it_is_encoded_again() -> None:
    data = encoded(Image.new("RGB", (5000, 100)), "JPEG", exif=turned(90))
    shown = decoded(display(data))
    assert shown.size == (41, 2048)
    assert not dict(shown.getexif())


def test_browsers_turn_jpeg_but_are_not_trusted_to_turn_others() -> None:
    jpeg, png = (encoded(Image.new("RGB", (40, 30)), format, exif=turned(90)) for format in ("JPEG", "PNG"))
    assert display(jpeg).content == jpeg
    assert decoded(display(png)).size == (30, 40)


def test_a_transparent_picture_is_reduced_until_it_takes_4_mib() -> None:
    image = noise(1900, 1900)
    image.putalpha(noise(1900, 1900).getchannel("R"))
    shown = display(encoded(image, "PNG", compress_level=1))
    assert decoded(shown).size == (1024, 1024)
    assert len(shown.content) <= 4 * 1024 * 1024


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_kept(mode: str) -> None:
    image = Image.new("RGBA", (5000, 10), (9, 9, 9, 0)).convert(mode)
    if mode == "P":
        image.info["transparency"] = image.getpixel((0, 0))
    shown = decoded(display(encoded(image, "PNG")))
    assert shown.format == "PNG"
    assert shown.convert("RGBA").getpixel((0, 0))[3] == 0  # type: ignore[index]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"<html><script>alert(1)</script></html>",
        b"%PDF-1.7",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        encoded(Image.new("RGB", (4097, 64)), "PNG")[:-30],
        encoded(Image.new("I;16", (4, 4)), "PNG"),
    ],
)
def test_nothing_but_a_picture_is_passed_on(data: bytes) -> None:
    with pytest.raises(Corrupt) as caught:
        display(data)
    assert caught.value.reason == "ORIGINAL_DAMAGED"
