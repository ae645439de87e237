"""Parse the settings that say how pictures become samples of one size."""

from __future__ import annotations

import re
from dataclasses import dataclass

from labelloop.errors import InvalidInput
from labelloop.events.v1.events_pb2 import ImageFit

from .dataset import DatasetSource

SIDE_MAX = 4096  # pixels

_SIZE = re.compile(r"([0-9]{1,5})[xX]([0-9]{1,5})")
_BACKGROUND = re.compile(r"#([0-9a-fA-F]{6})")
_WHITE = (255, 255, 255)


@dataclass(frozen=True)
class PictureSettings:
    """How pictures become samples of one size.

    Attributes:
        size: Width and height in pixels; None for the size that most pictures have.
        fit: How pictures of another size are fitted; padded if unspecified.
        background: Red, green and blue, 0 to 255, of what transparent pictures are laid on and others padded with.
        skip_bad: Leave out pictures that cannot be read, instead of refusing them.
        in_colour: Return RGB even if every picture is greyscale.
    """

    size: tuple[int, int] | None = None
    fit: ImageFit.ValueType = ImageFit.IMAGE_FIT_PAD
    background: tuple[int, int, int] = _WHITE
    skip_bad: bool = False
    in_colour: bool = False

    @property
    def has_grey_background(self) -> bool:
        return len(set(self.background)) == 1

    @property
    def background_name(self) -> str:
        red, green, blue = self.background
        return "white" if self.background == _WHITE else f"#{red:02x}{green:02x}{blue:02x}"


def picture_settings(source: DatasetSource) -> PictureSettings:
    """Return the settings in ``source``. Raises InvalidInput that names the field at fault."""
    return PictureSettings(
        size=_size(source.size) if source.size else None,
        fit=_fit(source.fit),
        background=_background(source.background) if source.background else _WHITE,
        skip_bad=source.skip_bad,
    )


def _size(text: str) -> tuple[int, int]:
    match = _SIZE.fullmatch(text.strip())
    sides = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(1 <= side <= SIDE_MAX for side in sides):
        raise InvalidInput(
            "PICTURE_SIZE",
            f"size is {text!r}: give width and height in pixels, each 1 to {SIDE_MAX}, for example 64x64",
            field="size",
            size=repr(text),
            side_max=SIDE_MAX,
        )
    return sides


def _fit(value: ImageFit.ValueType) -> ImageFit.ValueType:
    if value not in ImageFit.values():
        raise InvalidInput("PICTURE_FIT", f"fit is {value}: give pad, crop or stretch", field="fit", fit=value)
    return value or ImageFit.IMAGE_FIT_PAD


def _background(text: str) -> tuple[int, int, int]:
    match = _BACKGROUND.fullmatch(text.strip())
    if not match:
        raise InvalidInput(
            "PICTURE_BACKGROUND",
            f"background is {text!r}: give red, green and blue as #rrggbb, for example #ffffff for white",
            field="background",
            background=repr(text),
        )
    red, green, blue = bytes.fromhex(match[1])
    return red, green, blue
