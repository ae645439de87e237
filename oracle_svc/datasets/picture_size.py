"""Choose the size and the colours of samples from the headers of pictures. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

from .picture_file import PictureHeader
from .picture_settings import PictureSettings

DEFAULT_SIDE_MAX = 128  # pixels: more detail than a model on raw pixels uses costs memory and time
_SHARE_MIN = 0.1  # of the pictures that have the most frequent size; rarer ones say nothing about the rest

Size = tuple[int, int]


@dataclass(frozen=True)
class PicturePlan:
    """What pictures become.

    Attributes:
        size: Width and height in pixels.
        in_colour: Whether samples are RGB; else they are greyscale.
    """

    size: Size
    in_colour: bool

    def shape_of(self, count: int) -> tuple[int, ...]:
        """Return [N, H, W] or [N, H, W, 3]."""
        return (count, self.size[1], self.size[0], *((3,) if self.in_colour else ()))


def plan_of(headers: Sequence[PictureHeader], settings: PictureSettings) -> PicturePlan:
    """Return the plan for pictures with these headers, at least one.

    Samples are greyscale if all pictures are, unless ``settings`` asks for colour or the background is needed and has
    one.
    """
    size = settings.size or default_size([(header.width, header.height) for header in headers])
    background_shows = any(header.transparent or (header.width, header.height) != size for header in headers)
    coloured = not settings.has_grey_background and background_shows
    return PicturePlan(size, settings.in_colour or coloured or not all(header.grey for header in headers))


def default_size(sizes: Sequence[Size]) -> Size:
    """Return the size to which pictures of ``sizes`` are fitted if no other is asked for.

    It is that of all, or :func:`typical_size` scaled down to 128 pixels on the longer side.
    """
    typical, _ = typical_size(sizes)
    longer = max(typical)
    if len(set(sizes)) == 1 or longer <= DEFAULT_SIDE_MAX:
        return typical
    width, height = (max(1, round(side * DEFAULT_SIDE_MAX / longer)) for side in typical)
    return width, height


def typical_size(sizes: Sequence[Size]) -> tuple[Size, str]:
    """Return the most frequent of ``sizes``, of the smaller area where two are as frequent, and the rule in words.

    Where fewer than a tenth share it, or no two, it is the median width and height instead.
    """
    counts = Counter(sizes)
    common, count = min(counts.items(), key=lambda item: (-item[1], item[0][0] * item[0][1], item[0]))
    if len(counts) == 1 or (count > 1 and count >= _SHARE_MIN * len(sizes)):
        return common, f"the most frequent of {len(counts):,} sizes"
    medians = median_low(width for width, _ in sizes), median_low(height for _, height in sizes)
    return medians, f"the median width and height of {len(counts):,} sizes"
