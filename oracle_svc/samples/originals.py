"""Prepare the original file of a sample for display to annotators. Pure functions."""

from __future__ import annotations

from io import BytesIO

from labelloop.errors import Corrupt
from PIL import Image

from oracle_svc.datasets.fitting import upright
from oracle_svc.datasets.picture_bounds import LARGE_PIXELS
from oracle_svc.datasets.picture_file import PictureFault, check_scans, one_at_a_time, opened, orientation_of

from .encoding import Picture

_BYTES_MAX = 4 * 1024 * 1024
_SIDE_MAX = 4096  # pixels of a file that is passed on
_DISPLAY_SIDES_MAX = (2048, 1024, 512)  # pixels of one that is encoded again; the first that yields at most 4 MiB
_LOSSLESS_PIXELS_MAX = 2**20  # from here on a PNG of a photograph takes megabytes
_QUALITY = 90  # of JPEG
_SUFFIX = ".tga"  # TGA has no signature and is recognised by its suffix as well, which is not known here
_MEDIA_TYPES = {  # of the formats that browsers show
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",  # JPEG with further views
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "BMP": "image/bmp",
}
_TURNED_BY_BROWSERS = frozenset({"JPEG", "MPO"})
_LOSSY = frozenset({"JPEG", "MPO", "JPEG2000", "WEBP", "AVIF"})


def display(data: bytes) -> Picture:
    """Return what people see of a picture's file with the bytes ``data``.

    The file is passed on unchanged, with the media type of its content, if browsers show its format, it takes at most
    4 MiB, and no side is longer than 4,096 pixels. Others are encoded again, turned as EXIF says, with the longer side
    at most 2,048 pixels, or fewer if it would take more than 4 MiB: as JPEG if they are lossy or larger than a
    megapixel, and not transparent, else as PNG. What is returned is passed on unchanged if it is given again.

    Nothing but a picture is ever passed on, because a browser would run the scripts of an SVG or HTML file.

    Raises Corrupt if ``data`` is no picture that a pool may hold.
    """
    try:
        check_scans(data)
        with opened(BytesIO(data), _SUFFIX) as image:
            media_type = _media_type(image)
            small = len(data) <= _BYTES_MAX and max(image.size) <= _SIDE_MAX
            return Picture(media_type, data) if media_type and small else _encoded(image)
    except PictureFault as fault:
        raise Corrupt("ORIGINAL_DAMAGED", f"a sample's original cannot be read as a picture ({fault})") from fault


def _media_type(image: Image.Image) -> str | None:
    """Return the media type; None for formats that browsers do not show, or not turned as EXIF says."""
    shown_upright = image.format in _TURNED_BY_BROWSERS or orientation_of(image) == 1
    return _MEDIA_TYPES.get(image.format or "") if shown_upright else None


def _encoded(image: Image.Image) -> Picture:
    lossy, first = image.format in _LOSSY, _DISPLAY_SIDES_MAX[0]
    with one_at_a_time(image.width * image.height >= LARGE_PIXELS):
        image.draft(None, (2 * first, 2 * first))  # JPEG's decoder skips finer detail
        picture = _in_colours(upright(image))
        picture.thumbnail((first, first))
    for side in _DISPLAY_SIDES_MAX:
        picture.thumbnail((side, side))
        encoded = _as_jpeg_or_png(picture, lossy)
        if len(encoded.content) <= _BYTES_MAX:
            break
    return encoded


def _as_jpeg_or_png(picture: Image.Image, lossy: bool) -> Picture:
    output = BytesIO()
    if "A" not in picture.mode and (lossy or picture.width * picture.height > _LOSSLESS_PIXELS_MAX):
        picture.save(output, "JPEG", quality=_QUALITY)
        return Picture("image/jpeg", output.getvalue())
    picture.save(output, "PNG")
    return Picture("image/png", output.getvalue())


def _in_colours(image: Image.Image) -> Image.Image:
    """Convert to L, LA, RGB or RGBA, without the file's metadata, which may say where a photograph was taken."""
    grey = image.mode in ("1", "L", "LA")
    alpha = "A" if image.has_transparency_data else ""
    converted = image.convert(("L" if grey else "RGB") + alpha)
    converted.info.clear()
    return converted
