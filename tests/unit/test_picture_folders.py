"""Ordinary folders of pictures: sizes, transparency, formats, names, and files that cannot be read."""

from __future__ import annotations

import hashlib
import os
import struct
import sys
import zlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelloop.errors import Corrupt, InvalidInput, LabelloopError
from labelloop.events.v1.events_pb2 import ImageFit
from PIL import Image

from oracle_svc.datasets import Dataset, DatasetSource, images, load, scratch
from oracle_svc.datasets.images import PictureFile
from oracle_svc.datasets.picture_depth import reduced_bits
from oracle_svc.datasets.picture_file import PictureHeader, read_header
from oracle_svc.datasets.picture_notes import picture_notes
from oracle_svc.datasets.picture_settings import PictureSettings
from oracle_svc.datasets.picture_size import PicturePlan

from .test_datasets_images import put, read, refused

CLASSES = ("a", "b")


def note_of(dataset: Dataset, word: str) -> str:
    """The one note that contains ``word``."""
    (note,) = (note for note in dataset.notes if word in note)
    return note


def test_pictures_of_one_size_are_read_as_they_are_and_without_notes(tmp_path: Path) -> None:
    put(tmp_path / "a.png", size=(300, 200))
    put(tmp_path / "b.png", size=(300, 200))
    dataset = read(tmp_path, classes=CLASSES)
    assert dataset.samples.shape == (2, 200, 300)
    assert dataset.notes == ()
    assert dataset.originals == ()
    assert read(tmp_path, classes=CLASSES, size="300x200", fit=ImageFit.IMAGE_FIT_CROP).notes == ()


def test_a_picture_of_another_size_is_padded(tmp_path: Path) -> None:
    for name, size in (("a.png", (4, 4)), ("b.png", (4, 4)), ("wide.png", (8, 4))):
        put(tmp_path / name, 9, size=size)
    dataset = read(tmp_path, classes=CLASSES)
    assert dataset.samples[2].tolist() == [[255] * 4, [9] * 4, [9] * 4, [255] * 4]
    assert note_of(dataset, "fitted") == (
        "pictures are fitted to 4x4 pixels (the most frequent of 2 sizes; size sets another): those of another size "
        "are scaled whole and padded with white; people see the original files"
    )


@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        (ImageFit.IMAGE_FIT_UNSPECIFIED, [[0] * 4, [50, 150, 150, 250], [50, 150, 150, 250], [0] * 4]),
        (ImageFit.IMAGE_FIT_PAD, [[0] * 4, [50, 150, 150, 250], [50, 150, 150, 250], [0] * 4]),
        (ImageFit.IMAGE_FIT_CROP, [[150] * 4] * 4),
        (ImageFit.IMAGE_FIT_STRETCH, [[50, 150, 150, 250]] * 4),
    ],
)
def test_pictures_are_fitted_as_asked(tmp_path: Path, fit: ImageFit.ValueType, expected: list[list[int]]) -> None:
    stripes = np.repeat(np.array([[50, 150, 250]], np.uint8), [64, 128, 64], axis=1).repeat(128, axis=0)
    Image.fromarray(stripes).save(tmp_path / "a.png")
    (sample,) = read(tmp_path, classes=CLASSES, size="4x4", fit=fit, background="#000000").samples[:]
    np.testing.assert_allclose(sample, expected, atol=20)  # a bicubic filter mixes pixels at edges


def test_people_see_the_original_of_a_picture_that_was_fitted(tmp_path: Path) -> None:
    paths = [put(tmp_path / name, size=size) for name, size in (("a.png", (4, 4)), ("b.png", (8, 8)))]
    dataset = read(tmp_path, classes=CLASSES, size="8x8")
    assert [original.path for original in dataset.originals] == paths
    assert [original.sha256 for original in dataset.originals] == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in paths
    ]


def test_samples_are_named_after_their_files(tmp_path: Path) -> None:
    for name in ("dog/1.png", "cat/2.png", "cat/10.png"):
        put(tmp_path / name)
    assert list(read(tmp_path).names) == ["cat/10.png", "cat/2.png", "dog/1.png"]


def test_names_are_in_nfc(tmp_path: Path) -> None:
    put(tmp_path / "e\u0301.png")
    assert list(read(tmp_path, classes=CLASSES).names) == ["\u00e9.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems hold these names equal")
def test_two_names_that_differ_in_their_encoding_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "\u00e9.png")
    put(tmp_path / "e\u0301.png")
    error = refused(tmp_path, classes=CLASSES)
    assert isinstance(error, InvalidInput)
    assert (error.reason, error.field) == ("NAMES_EQUAL", "name")
    assert "\u00e9.png" in error.message


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_utf8_is_refused_or_left_out(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    put(tmp_path / "b.png").rename(tmp_path / os.fsdecode(b"\xff.png"))
    error = refused(tmp_path, classes=CLASSES)
    assert isinstance(error, Corrupt)
    assert "\\udcff.png (its name is not UTF-8: rename it)" in error.message
    dataset = read(tmp_path, classes=CLASSES, skip_bad=True)
    assert list(dataset.names) == ["a.png"]
    assert "\\udcff.png" in note_of(dataset, "skip_bad")


@pytest.mark.parametrize(
    ("name", "format", "mode"),
    [
        ("a.jfif", "JPEG", "RGB"),
        ("a.jpe", "JPEG", "RGB"),
        ("a.avif", "AVIF", "RGB"),
        ("a.jp2", "JPEG2000", "RGB"),
        ("a.tga", "TGA", "RGB"),
        ("a.ico", "ICO", "RGB"),
        ("a.pcx", "PCX", "RGB"),
        ("a", "PNG", "RGB"),
        ("a.1", "GIF", "P"),
        ("a.png", "JPEG", "RGB"),
        ("a.dat", "TIFF", "CMYK"),
    ],
)
def test_a_file_is_a_picture_by_its_content(tmp_path: Path, name: str, format: str, mode: str) -> None:
    put(tmp_path / name, 16, mode=mode, size=(16, 16), format=format)
    put(tmp_path / "other.png", mode="RGB", size=(16, 16))
    dataset = read(tmp_path, classes=CLASSES)
    assert list(dataset.names) == [name, "other.png"]
    assert dataset.notes == ()


def test_files_that_are_no_pictures_are_left_out_and_named(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "a.png")
    put(tmp_path / "dog" / "b.png")
    for name in ("cat/notes.txt", "P1.txt", "labels.csv", "empty", "page.svg", "x.eps", "dog/z.bin"):
        (tmp_path / name).write_text("P1 no picture")
    for name in (".DS_Store", "cat/Thumbs.db", "dog/desktop.ini", "dog/._b.png"):
        (tmp_path / name).write_text("of a desktop")
    (tmp_path / "__MACOSX").mkdir()
    dataset = read(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.notes == (
        "7 files are no pictures and are left out: P1.txt, cat/notes.txt, dog/z.bin, empty, labels.csv and 2 more",
    )


def test_an_empty_class_folder_is_a_class(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "a.png")
    (tmp_path / "dog").mkdir()
    dataset = read(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0]


def test_a_picture_without_suffix_beside_class_folders_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "a.png")
    put(tmp_path / "stray", format="PNG")
    assert refused(tmp_path).reason == "FOLDER_LAYOUT"


def bad_folder(folder: Path, count: int) -> list[Path]:
    put(folder / "good.png", 7, size=(9, 9))
    damage = (b"", b"no picture", put(folder / "cut.png", size=(90, 90)).read_bytes()[:-30])
    (folder / "cut.png").unlink()
    paths = [folder / f"bad{index:02}.png" for index in range(count)]
    for index, path in enumerate(paths):
        path.write_bytes(damage[index % len(damage)])
    return paths


def test_all_pictures_that_cannot_be_read_are_named_at_once(tmp_path: Path) -> None:
    bad = bad_folder(tmp_path, 23)
    error = refused(tmp_path, classes=CLASSES)
    assert isinstance(error, Corrupt)
    assert (error.reason, error.field) == ("IMAGE_DAMAGED", "name")
    assert error.message.startswith(f"23 files in {tmp_path} cannot be read as pictures")
    assert error.message.endswith(" and 3 more")
    assert [path.name in error.message for path in bad] == [True] * 20 + [False] * 3
    assert "set skip_bad" in error.message


def test_pictures_that_cannot_be_read_are_left_out_if_asked(tmp_path: Path) -> None:
    bad_folder(tmp_path, 3)
    put(tmp_path / "z.png", 9, size=(9, 9))
    dataset = read(tmp_path, classes=CLASSES, skip_bad=True)
    assert list(dataset.names) == ["good.png", "z.png"]
    assert dataset.samples[:, 0, 0].tolist() == [7, 9]
    assert dataset.samples[:].flags.c_contiguous
    assert note_of(dataset, "skip_bad").startswith(
        "3 files cannot be read and are left out (skip_bad): bad00.png (an empty file), "
    )


def test_faults_keep_no_bytes_of_pictures_in_memory(tmp_path: Path) -> None:
    files = [PictureFile(path, PictureHeader(9, 9, True, False, False)) for path in bad_folder(tmp_path, 3)]
    pictures = images.read_pictures(files, PictureSettings(), str(tmp_path), tmp_path)
    assert len(pictures.faults) == 3
    assert [(fault.__traceback__, fault.__cause__) for fault in pictures.faults.values()] == [(None, None)] * 3


def test_what_is_left_out_decides_neither_size_nor_colour(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        cut = put(tmp_path / name, mode="RGB", size=(90, 90))
        cut.write_bytes(cut.read_bytes()[:-30])
    put(tmp_path / "good.png", 7, size=(9, 9))
    dataset = read(tmp_path, classes=CLASSES, skip_bad=True)
    assert dataset.samples.shape == (1, 9, 9)
    assert dataset.originals == ()


def test_a_folder_of_nothing_but_bad_pictures_is_refused_even_if_they_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    assert refused(tmp_path, classes=CLASSES, skip_bad=True).reason == "IMAGE_DAMAGED"


def test_a_photograph_of_a_format_that_is_not_read_is_not_left_out_silently(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    put(tmp_path / "b.dng", format="TIFF")
    error = refused(tmp_path, classes=CLASSES)
    assert "IMG_1.HEIC (no picture of a known format)" in error.message
    assert "b.dng (a camera's raw file: convert it to JPEG or PNG)" in error.message


def test_a_broken_link_and_a_pipe_are_not_left_out_silently(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "missing.png")
    os.mkfifo(tmp_path / "pipe")
    assert "b.png (no file, or a link, which is not followed)" in refused(tmp_path, classes=CLASSES).message
    dataset = read(tmp_path, classes=CLASSES, skip_bad=True)
    assert list(dataset.names) == ["a.png"]
    assert "1 file is no picture and is left out: pipe" in dataset.notes


def test_an_error_for_a_folder_without_pictures_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_text("no picture")
    error = refused(tmp_path, classes=CLASSES)
    assert error.reason == "EMPTY_POOL"
    assert "(1 file is no picture and is left out: a.docx)" in error.message


def test_large_pictures_of_one_size_are_kept_with_a_note(tmp_path: Path) -> None:
    put(tmp_path / "a.png", size=(513, 9))
    dataset = read(tmp_path, classes=CLASSES)
    assert dataset.samples.shape == (1, 9, 513)
    assert note_of(dataset, "513x9").endswith("size sets fewer, such as 128x128")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, colour: int, data: bytes, *extra: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b""))
    )


def tiff(bits: int, data: bytes) -> bytes:
    """A picture of 2x2 pixels, RGB."""
    tags = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 3, 200), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 300)]
    tags += [(277, 3, 1, 3), (278, 3, 1, 2), (279, 4, 1, len(data))]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return head.ljust(200, b"\0") + struct.pack("<3H", bits, bits, bits).ljust(100, b"\0") + data


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("grey.png", png(2, 2, 16, 0, (b"\0" + b"\x0f\xff" * 2) * 2)),
        ("rgb.png", png(2, 2, 16, 2, (b"\0" + b"\x0f\xff" * 6) * 2)),
        ("rgba.png", png(2, 2, 16, 6, (b"\0" + b"\x0f\xff" * 8) * 2)),
        ("grey.pgm", b"P5 2 2 4095\n" + b"\x0f\xff" * 4),
        ("rgb.ppm", b"P6 2 2 4095\n" + b"\x0f\xff" * 12),
        ("plain.ppm", b"P3 2 2 4095\n" + b"4095 " * 12),
        ("rgb.tiff", tiff(16, b"\xff\x0f" * 12)),
    ],
)
def test_more_than_8_bits_a_channel_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    error = refused(tmp_path, classes=CLASSES)
    assert isinstance(error, InvalidInput)
    assert (error.reason, error.field) == ("IMAGE_DEPTH", "name")


def test_deep_jpeg_2000_is_refused(tmp_path: Path) -> None:
    shallow = put(tmp_path / "a.jp2", mode="RGB", size=(16, 16))
    data = shallow.read_bytes()
    assert read(tmp_path, classes=CLASSES).samples.shape == (1, 16, 16, 3)
    precision = data.index(b"\xff\x4f\xff\x51") + 42
    shallow.write_bytes(data[:precision] + b"\x0b" + data[precision + 1 :])
    assert refused(tmp_path, classes=CLASSES).reason == "IMAGE_DEPTH"


@pytest.mark.parametrize(("flags", "bits"), [(0x40, 10), (0x60, 12), (0, 0)])
def test_avif_of_more_than_8_bits_is_read_with_a_note(tmp_path: Path, flags: int, bits: int) -> None:
    shallow = put(tmp_path / "a.avif", mode="RGB", size=(16, 16))
    data = bytearray(shallow.read_bytes())
    place = data.index(b"av1C") + 6
    data[place] = data[place] & ~0x60 | flags
    with Image.open(shallow) as image:
        assert reduced_bits(image, BytesIO(data)) == bits
    header = read_header(shallow)
    assert header is not None
    assert header.reduced_bits == 0
    header = replace(header, reduced_bits=bits)
    notes = [*picture_notes([header], PicturePlan((16, 16), True), False, PictureSettings())]
    said = [f"1 of 1 picture is AVIF of up to {bits} bits a channel and read with 8, as 256 levels"] if bits else []
    assert notes == said


def test_channels_of_fewer_than_8_bits_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 2 2 15\n" + bytes([15, 0, 15, 0]))
    (tmp_path / "b.png").write_bytes(png(2, 2, 4, 0, b"\0\xf0" * 2))
    (tmp_path / "c.tiff").write_bytes(tiff(8, b"\xff\xff\xff\0\0\0" * 2))
    samples = read(tmp_path, classes=CLASSES).samples
    assert samples[..., 0].reshape(3, -1).tolist() == [[255, 0, 255, 0]] * 3


def test_a_decompression_bomb_is_a_picture_that_cannot_be_read(tmp_path: Path) -> None:
    put(tmp_path / "good.png")
    (tmp_path / "bomb.png").write_bytes(png(10_000, 10_000, 8, 0, b""))
    (tmp_path / "larger").write_bytes(png(60_000, 60_000, 8, 0, b""))
    error = refused(tmp_path, classes=CLASSES)
    assert error.reason == "IMAGE_DAMAGED"
    assert error.message.startswith("2 files")
    assert list(read(tmp_path, classes=CLASSES, skip_bad=True).names) == ["good.png"]


def test_the_error_for_too_large_a_pool_says_to_fit_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 100)
    monkeypatch.setattr(scratch, "ARRAY_BYTES_MAX", 1000)
    put(tmp_path / "a.png", size=(50, 30))
    error = refused(tmp_path, classes=CLASSES)
    assert (error.reason, error.field) == ("NO_ROOM", "size")
    assert "50x30 pixels, takes 1,500 bytes" in error.message
    assert "set size to a smaller one" in error.message
    assert read(tmp_path, classes=CLASSES, size="20x20").samples.shape == (1, 20, 20)


@pytest.mark.parametrize(
    ("mode", "value", "options", "white", "red"),
    [
        ("LA", (0, 0), {}, 255, [255, 0, 0]),
        ("LA", (100, 255), {}, 100, [100, 100, 100]),
        ("RGBA", (0, 0, 0, 0), {}, [255, 255, 255], [255, 0, 0]),
        ("RGBA", (0, 0, 0, 51), {}, [204, 204, 204], [204, 0, 0]),
        ("P", 0, {"transparency": 0}, [255, 255, 255], [255, 0, 0]),
        ("L", 0, {"transparency": 0}, 255, [255, 0, 0]),
        ("L", 7, {"transparency": 0}, 7, [7, 7, 7]),
        ("1", 0, {"transparency": 0}, 255, [255, 0, 0]),
        ("RGB", (1, 2, 3), {"transparency": (1, 2, 3)}, [255, 255, 255], [255, 0, 0]),
        ("RGB", (1, 2, 3), {"transparency": (1, 2, 4)}, [1, 2, 3], [1, 2, 3]),
    ],
)
def test_transparency_is_laid_on_the_background(
    tmp_path: Path, mode: str, value: Any, options: Any, white: Any, red: Any
) -> None:
    Image.new(mode, (4, 3), value).save(tmp_path / "a.png", **options)
    dataset = read(tmp_path, classes=CLASSES)
    assert dataset.samples[0, 0, 0].tolist() == white
    assert dataset.notes == ("1 of 1 picture declares transparency, which is laid on white",)
    assert read(tmp_path, classes=CLASSES, background="#ff0000").samples[0, 0, 0].tolist() == red


def test_greyscale_among_colours_and_animations_are_on_the_record(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "green")]
    frames[0].save(tmp_path / "b.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "c.tiff", save_all=True, append_images=frames[1:])
    dataset = read(tmp_path, classes=CLASSES)
    assert dataset.samples[:, 0, 0].tolist() == [[0, 0, 0], [255, 0, 0], [255, 0, 0]]
    assert dataset.notes == (
        "1 of 3 pictures is greyscale and read as red, green and blue like the rest of the data",
        "2 of 3 pictures are animated or of several pages: only the first picture of each is read",
    )


def test_further_views_of_a_photograph_are_not_an_animation(tmp_path: Path) -> None:
    views = [Image.new("RGB", (40, 30), colour) for colour in ("red", "green")]
    views[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=views[1:])
    dataset = read(tmp_path, classes=CLASSES, size="10x8")
    assert dataset.samples[0, 4, 5].tolist() == [254, 0, 0]
    assert len(dataset.notes) == 1


@pytest.mark.parametrize("name", ["a.jpg", "a.tiff", "a.png", "a.webp"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_large_photographs_are_turned_and_reduced(tmp_path: Path, name: str, orientation: int) -> None:
    pixels = np.zeros((300, 400, 3), np.uint8)
    pixels[:150, :200] = 200  # bright in the upper left
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / name, exif=exif)
    turned = np.rot90(pixels, {1: 0, 3: 2, 6: 3, 8: 1}[orientation])
    height, width = turned.shape[0] // 10, turned.shape[1] // 10
    (sample,) = read(tmp_path, classes=CLASSES, size=f"{width}x{height}").samples[:]
    expected = turned.reshape(height, 10, width, 10, 3).mean(axis=(1, 3))
    assert np.abs(sample - expected).mean() < 5


def test_an_evaluation_set_is_fitted_like_the_pool(tmp_path: Path) -> None:
    for name in ("pool/cat/a.png", "pool/dog/b.png"):
        put(tmp_path / name, mode="RGB", size=(6, 6))
    put(tmp_path / "evaluation" / "cat" / "c.png", size=(60, 30))
    put(tmp_path / "evaluation" / "dog" / "d.png", size=(60, 30))
    dataset = read(tmp_path / "pool", evaluation=str(tmp_path / "evaluation"), background="#00ff00")
    assert dataset.evaluation_samples is not None
    assert dataset.evaluation_samples.shape == (2, 6, 6, 3)
    assert dataset.evaluation_samples[0, 0, 0].tolist() == [0, 255, 0]
    assert note_of(dataset, "fitted").startswith("evaluation set: pictures are fitted to 6x6 pixels")


def test_a_coloured_background_of_a_greyscale_pool_is_grey_in_its_evaluation_set(tmp_path: Path) -> None:
    for name in ("pool/cat/a.png", "pool/dog/b.png"):
        put(tmp_path / name, size=(6, 6))
    for name in ("evaluation/cat/a.png", "evaluation/dog/b.png"):
        put(tmp_path / name, size=(60, 30))
    dataset = read(tmp_path / "pool", evaluation=str(tmp_path / "evaluation"), background="#ff0000")
    assert dataset.samples.shape == (2, 6, 6)
    assert dataset.evaluation_samples is not None
    assert dataset.evaluation_samples[:, 0, 0].tolist() == [76, 76]


def test_a_folder_may_evaluate_a_pool_in_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "pool.npy", np.zeros((4, 6, 5), np.uint8))
    put(tmp_path / "evaluation" / "cat" / "c.png", size=(60, 30))
    put(tmp_path / "evaluation" / "dog" / "d.png", size=(50, 30))
    source = DatasetSource(str(tmp_path / "pool.npy"), evaluation=str(tmp_path / "evaluation"), classes=("cat", "dog"))
    dataset = load(source, data_dir=None, cache_dir=tmp_path / "cache")
    assert dataset.evaluation_samples is not None
    assert dataset.evaluation_samples.shape == (2, 6, 5)


@pytest.mark.parametrize("setting", [{"size": "9x9"}, {"fit": ImageFit.IMAGE_FIT_CROP}, {"background": "#ffffff"}])
@pytest.mark.parametrize("pool", ["mnist", "pool.npy"])
def test_settings_of_pictures_are_refused_for_other_pools(tmp_path: Path, setting: dict[str, Any], pool: str) -> None:
    np.save(tmp_path / "pool.npy", np.zeros((4, 6, 5), np.uint8))
    name = pool if pool == "mnist" else str(tmp_path / pool)
    with pytest.raises(LabelloopError) as caught:
        load(
            DatasetSource(name, classes=CLASSES if pool != "mnist" else (), **setting),
            data_dir=None,
            cache_dir=tmp_path,
        )
    assert isinstance(caught.value, InvalidInput)
    assert [caught.value.field] == list(setting)


def test_the_note_says_how_the_size_was_chosen(tmp_path: Path) -> None:
    for number, size in enumerate([(512, 256), (512, 256), (9, 9)]):
        put(tmp_path / f"{number}.png", size=size)
    note = note_of(read(tmp_path, classes=CLASSES), "fitted")
    assert "fitted to 128x64 pixels (the most frequent of 2 sizes, 512x256, scaled down; size sets another)" in note
    put(tmp_path / "1.png", size=(50, 30))
    note = note_of(read(tmp_path, classes=CLASSES), "fitted")
    assert "fitted to 50x30 pixels (the median width and height of 3 sizes; size sets another)" in note
    note = note_of(read(tmp_path, classes=CLASSES, size="8x8", fit=ImageFit.IMAGE_FIT_CROP), "fitted")
    assert note.startswith("pictures are fitted to 8x8 pixels: those of another size are scaled and cut off at the ")
