"""Open picture files, which are hostile until decoded, and read what their headers say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import IO, BinaryIO, cast

from PIL import ExifTags, Image, UnidentifiedImageError

from .file_access import is_file, open_file
from .picture_bounds import FILE_BYTES_MAX, PIXELS_MAX, MeteredFile, scans_fault, size_fault
from .picture_depth import is_deep, reduced_bits
from .picture_formats import PICTURE_SUFFIXES, RAW_SUFFIXES, readable_formats

LARGE_BYTES = FILE_BYTES_MAX // 4
_SHOWN_IN_TURN = frozenset({"GIF", "WEBP", "PNG", "AVIF", "TIFF", "FLI", "DCX"})  # not layers, nor second views
_large = Lock()
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


class PictureFault(Exception):
    """A file that cannot become a sample; the text says why, in a few words."""

    def bare(self) -> PictureFault:
        """Return an equal fault without a traceback, whose frames would keep the file's bytes in memory."""
        return type(self)(*self.args)


class DeepPicture(PictureFault):
    """A picture with more than 8 bits a channel."""


class NoPicture(PictureFault):
    """A file whose bytes are of no known format."""


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """What a picture's file declares.

    Attributes:
        width: Pixels in a row, as displayed: turned as EXIF says.
        height: Rows of pixels, as displayed.
        grey: Whether its declared mode is greyscale, whatever its colours are.
        transparent: Whether it declares transparency.
        animated: Whether it has further frames, or pages, that are shown one after another.
        reduced_bits: Its bits a channel, if they are more than the 8 that are read; else 0.
    """

    width: int
    height: int
    grey: bool
    transparent: bool
    animated: bool
    reduced_bits: int = 0


def read_header(path: Path) -> PictureHeader | None:
    """Read the header of the file, or None if it neither is a picture nor is named like one. Raises PictureFault."""
    is_named_so = path.suffix.lower() in PICTURE_SUFFIXES
    try:
        if not is_file(path):  # reading a pipe or a device may never end
            raise NoPicture("no file, or a link, which is not followed")
        with os_errors(), open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            check_bytes(size)
            with one_at_a_time(size >= LARGE_BYTES), opened(file, path.suffix) as image:  # some are read as a whole
                return replace(header_of(image), reduced_bits=reduced_bits(image, file))
    except NoPicture:
        if is_named_so:
            raise
        return None


def check_bytes(size: int) -> None:
    """Raise PictureFault for a file of more bytes than a picture may have."""
    if size > FILE_BYTES_MAX:
        raise PictureFault(f"larger than {FILE_BYTES_MAX // 1024**2} MiB")


@contextmanager
def os_errors() -> Iterator[None]:
    """Raise an OSError, such as one of permissions, as PictureFault."""
    try:
        yield
    except OSError as error:
        raise PictureFault(error.strerror or _words(error)) from error


def header_of(image: Image.Image) -> PictureHeader:
    """Return the header of the opened image."""
    turned = image.format != "TIFF" and orientation_of(image) in _TURNED  # Pillow turns TIFF itself
    width, height = reversed(image.size) if turned else image.size
    return PictureHeader(
        width=width,
        height=height,
        grey=is_grey(image),
        transparent=image.has_transparency_data,
        animated=image.format in _SHOWN_IN_TURN and getattr(image, "is_animated", False),
    )


def is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA")


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8, that is known without decoding pixels."""
    orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)  # PNG's own decodes all of it
    return orientation if orientation in range(1, 9) else 1


@contextmanager
def opened(file: BinaryIO | BytesIO, suffix: str) -> Iterator[Image.Image]:
    """Open the picture in ``file``, whose name ends in ``suffix``; decoding it in the context may fail in any way.

    Whatever goes wrong, inside the context too, is raised as PictureFault: NoPicture for bytes of no known format,
    DeepPicture for more than 8 bits a channel.
    """
    try:
        if suffix.lower() in RAW_SUFFIXES:  # they are TIFF, of a thumbnail
            raise PictureFault("a camera's raw file: convert it to JPEG or PNG")
        metered = MeteredFile(file)
        with _identified(metered, suffix.lower()) as image:
            check_pixels(image)
            if is_deep(image, file):
                raise DeepPicture(f"more than 8 bits a channel (mode {image.mode}): convert it to 8")
            metered.admit_body(image)
            yield image
    except PictureFault:
        raise
    except _BOMBS as error:
        raise PictureFault(f"it has more than {PIXELS_MAX:,} pixels: scale it down") from error
    except Exception as error:  # decoders raise almost any exception for broken bytes
        raise PictureFault(_words(error)) from error


@contextmanager
def one_at_a_time(is_large: bool) -> Iterator[None]:
    """Wait, for a large picture, until no other is decoded in this process: each may take hundreds of megabytes."""
    with _large if is_large else nullcontext():
        yield


def check_scans(data: bytes) -> None:
    """Raise PictureFault for the bytes of a JPEG that takes very long to decode for its size."""
    if fault := scans_fault(data):
        raise PictureFault(fault)


def check_pixels(image: Image.Image) -> None:
    """Raise PictureFault for more pixels than this process has memory and time for: a small file may hold gigabytes."""
    if fault := size_fault(image):
        raise PictureFault(fault)


def _identified(file: MeteredFile, suffix: str) -> Image.Image:
    try:
        return Image.open(cast("IO[bytes]", file), formats=readable_formats(suffix))
    except UnidentifiedImageError as error:
        file.seek(0)
        raise NoPicture("no picture of a known format" if file.read(1) else "an empty file") from error
    except _BOMBS:
        raise
    except Exception as error:
        if suffix in PICTURE_SUFFIXES:
            raise
        raise NoPicture(_words(error)) from error  # its first bytes are like a picture's by chance


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__
