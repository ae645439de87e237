"""Bound what decoding a picture may take, by the memory of this process's container."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import BinaryIO

from labelloop.runtime.memory_limit import memory_limit
from PIL import Image

_BYTES_A_PIXEL = 16  # at most, while a picture is decoded and converted: WebP takes 15
_SHARE = 2  # of the memory, for a picture that is decoded alone
_THREADS = 4  # that decode smaller ones at once
_PIXELS_MAX = 89_478_485  # from here on Pillow warns of decompression bombs
_PYTHON_PIXELS_MAX = 2**22  # of formats that Pillow decodes in Python: each pixel takes about a microsecond
_JPEG, _SCAN, _SCANS_MAX = b"\xff\xd8", b"\xff\xda", 32
_TILE_TAGS = (322, 323)  # TIFF: width and height of a tile
_READS, _BYTES = 20_000, 32 * 1024**2  # of a header; a photograph has a few hundred parts
_BYTES_A_READ = 128  # of a body, on average at least
_READS_A_PIXEL = 4  # of bodies that Python decodes

PIXELS_MAX = min(_PIXELS_MAX, memory_limit() // _SHARE // _BYTES_A_PIXEL)
LARGE_PIXELS = min(2**24, PIXELS_MAX // _THREADS)
"""Pictures of so many pixels are decoded one at a time."""
FILE_BYTES_MAX = min(256 * 1024**2, memory_limit() // 16)

# Pillow refuses twice as many by itself: pictures within pictures, as icons have them, and canvases of animations.
Image.MAX_IMAGE_PIXELS = PIXELS_MAX // 2
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # for a half, which is allowed


def size_fault(image: Image.Image) -> str:
    """Return what is wrong if the picture takes more memory or time than there is, else an empty string."""
    most = min(PIXELS_MAX, _PYTHON_PIXELS_MAX) if _is_slow(image) else PIXELS_MAX
    tags = getattr(image, "tag_v2", {})
    for (width, height), what in ((image.size, ""), (tuple(_side(tags, tag) for tag in _TILE_TAGS), "tiles of ")):
        if width * height > most:
            return f"{what}{width}x{height} pixels, more than {most:,} in all: scale it down"
    return ""


def _side(tags: Mapping[int, object], tag: int) -> int:
    """Return the side of TIFF's tiles, which are decoded whole whatever the size of the picture; 0 without them."""
    value = tags.get(tag, 0)
    return value if isinstance(value, int) else 0


def scans_fault(data: bytes) -> str:
    """Return what is wrong if a JPEG is refined in more scans than encoders write, else an empty string.

    Each scan of 30 bytes may take a tenth of a second, as it goes through all pixels.
    """
    scans = data.count(_SCAN) if data.startswith(_JPEG) else 0
    return f"{scans:,} scans, more than {_SCANS_MAX}: save it again" if scans > _SCANS_MAX else ""


def _is_slow(image: Image.Image) -> bool:
    """Return whether Pillow decodes the picture in Python, and not in C."""
    return any(tile[0] in Image.DECODERS for tile in getattr(image, "tile", ()))


class TooManyParts(Exception):
    """A file of very many parts, each of which takes time."""


class MeteredFile(io.RawIOBase):
    """A picture's file that refuses to be read in very many small parts, or many times over.

    A header may take 20,000 readings and 32 MiB; formats that are read as a whole may be read so twice. Raises
    TooManyParts beyond that.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._reads, self._bytes, self._wholes = _READS, _BYTES, 2

    def admit_body(self, image: Image.Image) -> None:
        """Let the body of the opened picture be read too: in parts of 128 bytes on average, or pixel by pixel."""
        position = self._file.tell()
        size = self._file.seek(0, io.SEEK_END)
        self._file.seek(position)
        pixels = image.width * image.height if _is_slow(image) else 0
        self._reads = _READS + max(size // _BYTES_A_READ, pixels * _READS_A_PIXEL)
        self._bytes = _BYTES + 2 * size

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            self._wholes -= 1
            self._check()
            return self._file.read()
        return self._counted(self._file.read(size))

    def readline(self, size: int | None = -1) -> bytes:
        return self._counted(self._file.readline(min(_BYTES, size if size and size > 0 else _BYTES)))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def _counted(self, data: bytes) -> bytes:
        self._reads -= 1
        self._bytes -= len(data)
        self._check()
        return data

    def _check(self) -> None:
        if min(self._reads, self._bytes, self._wholes) < 0:
            raise TooManyParts("its metadata takes too long to read: save it again without")
