"""Name the formats of pictures that are read, and the suffixes of files that should be pictures."""

from __future__ import annotations

from functools import cache

from PIL import Image

# Formats that a signature identifies. Left out are those whose decoders start programs (EPS, WMF), decompress without
# a bound (FITS) or are placeholders (BUFR, GRIB, HDF5, MPEG), and rare ones that any bytes may pass for (DIB, SPIDER).
_FORMATS = (
    *("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "AVIF", "JPEG2000", "ICO", "CUR", "ICNS"),
    *("DCX", "DDS", "FLI", "MSP", "PCX", "PSD", "QOI", "SGI", "SUN", "XBM", "XPM"),
)
_TGA_SUFFIXES = frozenset({".tga", ".icb", ".vda", ".vst"})  # TGA has no signature: its suffix must say so too
RAW_SUFFIXES = frozenset({".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw"})
PICTURE_SUFFIXES = (
    _TGA_SUFFIXES
    | RAW_SUFFIXES
    | frozenset({".apng", ".avif", ".bmp", ".cur", ".dcx", ".dds", ".flc", ".fli", ".gif", ".heic", ".heif", ".hif"})
    | frozenset({".icns", ".ico", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx"})
    | frozenset({".mpo", ".msp", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".ras", ".rgb"})
    | frozenset({".rgba", ".sgi", ".tif", ".tiff", ".webp", ".xbm", ".xpm"})
)


def readable_formats(suffix: str) -> tuple[str, ...]:
    """Return Pillow's names of the formats that a file whose name ends in ``suffix``, in lower case, may have."""
    return (*_with_signature(), *(("TGA",) if suffix in _TGA_SUFFIXES else ()))


@cache
def _with_signature() -> tuple[str, ...]:
    """Return the formats that this build of Pillow reads, which may lack AVIF, JPEG 2000 or WebP."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)
