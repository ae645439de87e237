"""Open picture files, which are hostile until decoded, and read what their headers say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image, UnidentifiedImageError

from .picture_depth import is_deep

FILE_BYTES_MAX = 256 * 1024 * 1024

# Formats that a signature identifies. Left out are those whose decoders start programs (EPS, WMF), decompress without
# a bound (FITS) or are placeholders (BUFR, GRIB, HDF5, MPEG), and rare ones that any bytes may pass for (DIB, SPIDER).
_FORMATS = (
    *("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "AVIF", "JPEG2000", "ICO", "CUR", "ICNS"),
    *("DCX", "DDS", "FLI", "MSP", "PCX", "PSD", "QOI", "SGI", "SUN", "XBM", "XPM"),
)
_TGA_SUFFIXES = frozenset({".tga", ".icb", ".vda", ".vst"})  # TGA has no signature: its suffix must say so too
_RAW_SUFFIXES = frozenset({".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw"})
PICTURE_SUFFIXES = (
    _TGA_SUFFIXES
    | _RAW_SUFFIXES
    | frozenset({".apng", ".avif", ".bmp", ".cur", ".dcx", ".dds", ".flc", ".fli", ".gif", ".heic", ".heif", ".hif"})
    | frozenset({".icns", ".ico", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx"})
    | frozenset({".mpo", ".msp", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".ras", ".rgb"})
    | frozenset({".rgba", ".sgi", ".tif", ".tiff", ".webp", ".xbm", ".xpm"})
)
_SHOWN_IN_TURN = frozenset({"GIF", "WEBP", "PNG", "AVIF", "TIFF", "FLI", "DCX"})  # not layers, nor second views
_HEAD_BYTES = 64 * 1024
_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


class PictureFault(Exception):
    """A file that cannot become a sample; the text says why, in a few words."""


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
    """

    width: int
    height: int
    grey: bool
    transparent: bool
    animated: bool


def read_header(path: Path) -> PictureHeader | None:
    """Read the header of the file, or None if it neither is a picture nor is named like one. Raises PictureFault."""
    is_named_so = path.suffix.lower() in PICTURE_SUFFIXES
    try:
        with os_errors(), path.open("rb") as file, opened(file, path.suffix) as image:
            return header_of(image)
    except NoPicture:
        if is_named_so:
            raise
        return None


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
        if suffix.lower() in _RAW_SUFFIXES:  # they are TIFF, of a thumbnail
            raise PictureFault("a camera's raw file: convert it to JPEG or PNG")
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        with _identified(file, suffix.lower()) as image:
            check_pixels(image.size)
            if is_deep(image, head):
                raise DeepPicture(f"more than 8 bits a channel (mode {image.mode}): convert it to 8")
            yield image
    except PictureFault:
        raise
    except Exception as error:  # decoders raise almost any exception for broken bytes
        raise PictureFault(_words(error)) from error


def check_pixels(size: tuple[int, int]) -> None:
    """Raise PictureFault for more pixels than Pillow decodes without a warning: a small file may hold gigabytes."""
    pixels_max = Image.MAX_IMAGE_PIXELS
    if pixels_max is not None and size[0] * size[1] > pixels_max:
        raise PictureFault(f"{size[0]}x{size[1]} pixels, more than {pixels_max:,} in all")


def _identified(file: BinaryIO | BytesIO, suffix: str) -> Image.Image:
    try:
        return Image.open(file, formats=[*_readable(), *(["TGA"] if suffix in _TGA_SUFFIXES else [])])
    except UnidentifiedImageError as error:
        raise NoPicture("no picture of a known format") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureFault(_words(error)) from error
    except Exception as error:
        if suffix in PICTURE_SUFFIXES:
            raise
        raise NoPicture(_words(error)) from error  # its first bytes are like a picture's by chance


@cache
def _readable() -> tuple[str, ...]:
    """Return the formats that this build of Pillow reads, which may lack AVIF, JPEG 2000 or WebP."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__
