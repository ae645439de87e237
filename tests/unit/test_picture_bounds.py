"""Pictures that are small files and take long, or much memory, are refused by what they declare."""

from __future__ import annotations

import struct
import subprocess
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from labelloop.errors import Corrupt, LimitExceeded
from PIL import EpsImagePlugin, Image

from oracle_svc.datasets import DatasetSource, images, picture_bounds, picture_file
from oracle_svc.datasets import load as load_dataset
from oracle_svc.datasets.picture_bounds import FILE_BYTES_MAX, LARGE_PIXELS, PIXELS_MAX
from oracle_svc.datasets.picture_file import NoPicture, PictureFault, check_scans, opened, read_header
from oracle_svc.samples.originals import display

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(/etc/passwd) (r) file\nshowpage\n%%EOF\n"
SIDE = 8


def encoded(format_: str, side: int = SIDE, **options: object) -> bytes:
    output = BytesIO()
    Image.new("L", (side, side)).save(output, format_, **options)
    return output.getvalue()


def chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def declared(width: int, height: int) -> bytes:
    """Return a PNG whose header declares a size, and whose pixels are another's."""
    whole = encoded("PNG")
    return whole[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) + whole[33:]


def of_many_chunks(count: int) -> bytes:
    whole = encoded("PNG")
    return whole[:33] + chunk(b"zzZz") * count + whole[33:]


def of_many_comments(count: int) -> bytes:
    whole = encoded("GIF")
    at = whole.index(b"\x2c", 13)
    return whole[:at] + (b"\x21\xfe\x01x\0" * count) + whole[at:]


def qoi(side: int) -> bytes:
    ends = b"\0" * 7 + b"\1"
    return b"qoif" + side.to_bytes(4, "big") * 2 + b"\x03\x00" + b"\xfd" * (side * side // 62 + 1) + ends


def xpm(side: int) -> bytes:
    rows = (b'"' + b"a" * side + b'",\n') * side
    return b'/* XPM */\nstatic char*x[]={\n"%d %d 1 1",\n"a c #000000",\n' % (side, side) + rows + b"};"


def plain_ppm(side: int) -> bytes:
    return b"P2 %d %d 255\n" % (side, side) + b"0 " * side * side


def in_tiles(side: int) -> bytes:
    """Return a TIFF of 8x8 pixels in one tile of ``side`` x ``side``."""
    data, at = zlib.compress(bytes(side * 64)), 8 + 2 + 12 * 10 + 4
    shorts = {258: 8, 259: 8, 262: 1, 277: 1}
    values = {256: SIDE, 257: SIDE, **shorts, 322: side, 323: side, 324: at, 325: len(data)}
    entries = [
        struct.pack("<HHIHH", tag, 3, 1, value, 0) if tag in shorts else struct.pack("<HHII", tag, 4, 1, value)
        for tag, value in values.items()
    ]
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4) + data


def in_scans(count: int) -> bytes:
    """Return a progressive JPEG whose last scan is repeated."""
    whole = encoded("JPEG", progressive=True)
    last, end = whole.rindex(b"\xff\xda"), whole.rindex(b"\xff\xd9")
    return whole[:end] + whole[last:end] * count + whole[end:]


def icon_of(png: bytes) -> bytes:
    """Return an ICO that declares 8x8 pixels and holds another picture."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, SIDE, SIDE, 0, 0, 1, 8, len(png), 22) + png


def load(data: bytes, suffix: str) -> None:
    check_scans(data)
    with opened(BytesIO(data), suffix) as image:
        image.load()


def refused(data: bytes, suffix: str) -> str:
    """Open and decode a picture that must be refused, and return why it was."""
    with pytest.raises(PictureFault) as fault:
        load(data, suffix)
    return str(fault.value)


def test_bounds_follow_the_memory_of_the_container() -> None:
    assert LARGE_PIXELS * 4 <= PIXELS_MAX <= 89_478_485
    assert FILE_BYTES_MAX <= 256 * 1024**2


@pytest.mark.parametrize(
    ("data", "suffix", "why"),
    [
        (declared(30_000, 30_000), ".png", "it has more than"),
        (declared(9_460, 9_460), ".png", "it has more than"),
        (of_many_chunks(50_000), ".png", "metadata takes too long to read"),
        (of_many_comments(50_000), ".gif", "metadata takes too long to read"),
        (qoi(2_049), ".qoi", "2049x2049 pixels, more than 4,194,304"),
        (xpm(2_049), ".xpm", "2049x2049 pixels, more than 4,194,304"),
        (plain_ppm(2_049), ".ppm", "2049x2049 pixels, more than 4,194,304"),
        (in_tiles(20_000), ".tif", "tiles of 20000x20000 pixels, more than"),
        (in_scans(100), ".jpg", "scans, more than 32"),
        (icon_of(declared(30_000, 30_000)), ".ico", "it has more than"),
    ],
)
def test_bombs_are_refused_before_their_pixels_are_decoded(
    data: bytes, suffix: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load_prepare", decoded)
    assert why in refused(data, suffix)


@pytest.mark.parametrize(
    ("data", "suffix"),
    [
        (of_many_chunks(1_000), ".png"),
        (of_many_comments(1_000), ".gif"),
        (qoi(100), ".qoi"),
        (xpm(100), ".xpm"),
        (plain_ppm(100), ".ppm"),
        (in_tiles(64), ".tif"),
        (in_scans(10), ".jpg"),
        (icon_of(encoded("PNG")), ".ico"),
        (encoded("WEBP", 200), ".webp"),
        (encoded("TIFF", 200, compression="tiff_lzw"), ".tif"),
        (encoded("JPEG", 2_000, progressive=True), ".jpg"),
    ],
)
def test_pictures_like_them_of_usual_extent_are_read(data: bytes, suffix: str) -> None:
    load(data, suffix)


def test_many_parts_after_the_header_are_refused_too() -> None:
    whole = encoded("PNG")
    assert "takes too long to read" in refused(whole[:33] + chunk(b"IDAT") * 60_000 + whole[33:], ".png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".eps", ".tga", ""])
def test_a_postscript_file_starts_no_program_whatever_its_name(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    monkeypatch.setattr(subprocess, "Popen", started)
    assert refused(EPS, suffix)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(EPS)
    try:
        header = read_header(path)
    except NoPicture:
        header = None
    assert header is None


@pytest.mark.parametrize("make", [lambda: in_scans(100), lambda: declared(9_460, 9_460)])
def test_what_people_see_is_bounded_alike(make: Callable[[], bytes]) -> None:
    with pytest.raises(Corrupt, match="a sample's original cannot be read as a picture"):
        display(make())


def test_decoding_ends_if_it_takes_too_long_for_the_size_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pool"
    folder.mkdir()
    (folder / "a.png").write_bytes(encoded("PNG"))
    source = DatasetSource(str(folder), classes=("a", "b"))
    assert len(load_dataset(source, data_dir=None, cache_dir=tmp_path).samples) == 1
    monkeypatch.setattr(images, "_SECONDS", -1.0)
    with pytest.raises(LimitExceeded, match="takes longer than -1 s, which is too long for files of their size"):
        load_dataset(source, data_dir=None, cache_dir=tmp_path)


def test_a_file_too_large_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded("WEBP", 64)
    (tmp_path / "a.webp").write_bytes(data)
    monkeypatch.setattr(picture_file, "FILE_BYTES_MAX", len(data) - 1)
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(PictureFault, match="larger than 0 MiB"):
        read_header(tmp_path / "a.webp")


def test_every_place_that_opens_pictures_names_the_formats() -> None:
    root = Path(picture_bounds.__file__).parents[2]
    services = ("oracle_svc", "scorer_svc", "trainer_svc", "proto/labelloop", "deploy/labelloop_cli")
    opening = [
        line.strip()
        for folder in services
        for path in (root / folder).rglob("*.py")
        for line in path.read_text().splitlines()
        if "Image.open(" in line
    ]
    assert opening == ['return Image.open(cast("IO[bytes]", file), formats=readable_formats(suffix))']
