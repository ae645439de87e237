"""Bring decoded pictures to the colours, size and orientation of samples. No I/O."""

from __future__ import annotations

from labelloop.events.v1.events_pb2 import ImageFit
from PIL import ExifTags, Image

from .picture_file import orientation_of
from .picture_settings import PictureSettings

_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def reduce_jpeg(image: Image.Image, size: tuple[int, int], fit: ImageFit.ValueType) -> None:
    """Let JPEG's decoder skip detail that fitting to ``size`` would discard; call it before pixels are decoded.

    The decoded picture still has at least twice the pixels that are needed in each direction. Others are unchanged.
    """
    needed = scaled_size(image.size, size[::-1] if orientation_of(image) >= 5 else size, fit)
    if image.size != needed:
        image.draft(None, (2 * needed[0], 2 * needed[1]))


def upright(image: Image.Image) -> Image.Image:
    """Return the decoded picture turned as its EXIF data says."""
    image.load()
    method = _TRANSPOSED.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if method is None else image.transpose(method)


def flattened(image: Image.Image, background: tuple[int, int, int], in_colour: bool) -> Image.Image:
    """Convert to RGB, or to L if not ``in_colour``, with transparency laid on ``background``."""
    mode = "RGB" if in_colour else "L"
    if not image.has_transparency_data:
        return image.convert(mode)
    canvas = Image.new(mode, image.size, background if in_colour else background[0])
    mode_with_alpha = mode + "A"
    layer = image if image.mode == mode_with_alpha else image.convert(mode_with_alpha)  # no copy of what may be large
    canvas.paste(layer, mask=layer)
    return canvas


def fitted(image: Image.Image, size: tuple[int, int], settings: PictureSettings) -> Image.Image:
    """Fit an L or RGB picture to ``size``, resampled bicubically; one of that size is returned unchanged."""
    if image.size == size:
        return image
    if settings.fit == ImageFit.IMAGE_FIT_CROP:
        return image.resize(size, Image.Resampling.BICUBIC, box=_middle(image.size, size))
    scaled = image.resize(scaled_size(image.size, size, settings.fit), Image.Resampling.BICUBIC)
    if scaled.size == size:
        return scaled
    canvas = Image.new(image.mode, size, settings.background if image.mode == "RGB" else settings.background[0])
    canvas.paste(scaled, ((size[0] - scaled.size[0]) // 2, (size[1] - scaled.size[1]) // 2))
    return canvas


def _middle(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the largest box in the middle of a picture of ``size`` with the proportions of ``wanted``."""
    ratio = max(wanted[0] / size[0], wanted[1] / size[1])
    width, height = min(size[0], wanted[0] / ratio), min(size[1], wanted[1] / ratio)
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height


def scaled_size(size: tuple[int, int], wanted: tuple[int, int], fit: ImageFit.ValueType) -> tuple[int, int]:
    """Return the width and height to which a picture of ``size`` is scaled before it is padded or cut to ``wanted``."""
    if fit == ImageFit.IMAGE_FIT_STRETCH:
        return wanted
    narrower = wanted[0] * size[1] < wanted[1] * size[0]  # than the picture; whole numbers, so that all round alike
    if narrower == (fit == ImageFit.IMAGE_FIT_CROP):
        return max(1, _quotient(size[0] * wanted[1], size[1])), wanted[1]
    return wanted[0], max(1, _quotient(size[1] * wanted[0], size[0]))


def _quotient(dividend: int, divisor: int) -> int:
    """Divide positive numbers and round to the nearest whole number, halves up."""
    return (2 * dividend + divisor) // (2 * divisor)
