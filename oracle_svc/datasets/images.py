"""Read pictures into one array, in threads, each file once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
from labelloop.errors import LimitExceeded
from numpy.typing import NDArray

from .file_access import open_file, status_of
from .file_names import counted
from .fitting import fitted, flattened, reduce_jpeg, upright
from .picture_bounds import FILE_BYTES_MAX, LARGE_PIXELS
from .picture_file import (
    LARGE_BYTES,
    PictureFault,
    PictureHeader,
    check_bytes,
    check_pixels,
    check_scans,
    is_grey,
    one_at_a_time,
    opened,
    os_errors,
)
from .picture_settings import PictureSettings
from .picture_size import PicturePlan, plan_of
from .scratch import allocated
from .threads import in_threads

_SECONDS, _BYTES_A_SECOND = 600.0, 100_000  # photographs are read a hundred times as fast


@dataclass(frozen=True)
class PictureFile:
    """A picture's file and its header."""

    path: Path
    header: PictureHeader


@dataclass(frozen=True)
class Pictures:
    """Pictures that were read.

    Attributes:
        samples: [N, H, W] or [N, H, W, 3], uint8.
        plan: Size and colours of the samples.
        rows: For each sample the index of its file among those that were to be read, ascending.
        digests: SHA-256 of each sample's file as it was read.
        changed: Whether fitting changed any picture.
        faults: Why others could not be read, by the index of their file.
    """

    samples: NDArray[np.uint8]
    plan: PicturePlan
    rows: list[int]
    digests: list[str]
    changed: bool
    faults: dict[int, PictureFault]


@dataclass(frozen=True)
class _Read:
    digest: str
    changed: bool


class _Clock:
    """Ends the reading of pictures that are small files and take long: an upload could occupy a core for days."""

    def __init__(self, origin: str, size: int) -> None:
        self._origin, self._seconds = origin, _SECONDS + size / _BYTES_A_SECOND
        self._end = time.monotonic() + self._seconds

    def check(self) -> None:
        if time.monotonic() > self._end:
            message = (
                f"{self._origin}: decoding its pictures takes longer than {self._seconds:,.0f} s, which is too long "
                "for files of their size: scale down those of many pixels, or split the folder"
            )
            raise LimitExceeded("DECODING_TOO_LONG", message, field="size", origin=self._origin)


def read_pictures(files: Sequence[PictureFile], settings: PictureSettings, origin: str, cache_dir: Path) -> Pictures:
    """Read the pictures in ``files``, at least one; those that cannot be read are returned as faults.

    Pictures of one size are read unchanged if ``settings`` names no other. If leaving out faults changes size or
    colours that the rest would have, the rest is read again.

    More than 64 MiB of samples are decoded into a file in ``cache_dir``. Raises LimitExceeded if there is no room for
    them, or if decoding takes out of proportion long for the files' size; ``origin`` names them there.
    """
    clock = _Clock(origin, sum(map(_size_of_any, files)))
    rows, faults = list(range(len(files))), dict[int, PictureFault]()
    while True:
        plan = plan_of([files[row].header for row in rows], settings)
        samples = _allocated(plan, len(rows), origin, cache_dir)
        outcomes = _filled(samples, [files[row] for row in rows], plan, settings, clock)
        good = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, _Read)]
        read = [outcome for outcome in outcomes if isinstance(outcome, _Read)]
        faults |= {rows[place]: fault for place, fault in enumerate(outcomes) if isinstance(fault, PictureFault)}
        rows = [rows[place] for place in good]
        is_refused = bool(faults) and not settings.skip_bad
        if not rows or is_refused or plan_of([files[row].header for row in rows], settings) == plan:
            digests, changed = [outcome.digest for outcome in read], any(outcome.changed for outcome in read)
            return Pictures(_packed(samples, good), plan, rows, digests, changed, faults)


def _allocated(plan: PicturePlan, count: int, origin: str, cache_dir: Path) -> NDArray[np.uint8]:
    width, height = plan.size
    what = f"{origin}, {counted(count, 'picture')} of {width}x{height} pixels,"
    advice = "set size to a smaller one, for example 64x64, split the folder"
    return allocated(cache_dir, plan.shape_of(count), np.dtype(np.uint8), what, "size", advice)


def _filled(
    samples: NDArray[np.uint8],
    files: Sequence[PictureFile],
    plan: PicturePlan,
    settings: PictureSettings,
    clock: _Clock,
) -> list[_Read | PictureFault]:
    """Decode each file into its row of ``samples`` and return what became of it."""

    def fill(row: int) -> _Read | PictureFault:
        clock.check()
        try:
            with one_at_a_time(_is_large(files[row])):
                data = _bytes_of(files[row].path)
                changed = _decode(data, files[row], plan, settings, samples[row])
                return _Read(sha256(data).hexdigest(), changed)
        except PictureFault as fault:
            return fault.bare()

    return in_threads(fill, range(len(files)))


def _is_large(file: PictureFile) -> bool:
    return file.header.width * file.header.height >= LARGE_PIXELS or _size_of(file.path) >= LARGE_BYTES


def _size_of(path: Path) -> int:
    with os_errors():
        return status_of(path).st_size


def _size_of_any(file: PictureFile) -> int:
    try:
        return _size_of(file.path)
    except PictureFault:  # reading it says why
        return 0


def _bytes_of(path: Path) -> bytes:
    with os_errors(), open_file(path) as file:
        data = file.read(FILE_BYTES_MAX + 1)
    check_bytes(len(data))
    return data


def _decode(
    data: bytes, file: PictureFile, plan: PicturePlan, settings: PictureSettings, sample: NDArray[np.uint8]
) -> bool:
    """Decode ``data`` into ``sample`` and return whether fitting changed it. Raises PictureFault."""
    check_scans(data)
    with opened(BytesIO(data), file.path.suffix) as image:
        reduce_jpeg(image, plan.size, settings.fit)
        picture = upright(image)
        check_pixels(picture)
        if not plan.in_colour and not is_grey(picture):
            raise PictureFault("it changed while the folder was read")
        flat = flattened(picture, settings.background, plan.in_colour)
        sample[...] = np.asarray(fitted(flat, plan.size, settings))
    return flat.size != plan.size


def _packed(samples: NDArray[np.uint8], rows: Sequence[int]) -> NDArray[np.uint8]:
    """Return the ``rows`` of ``samples``, ascending; moved within the array, because a copy could be gigabytes."""
    for place, row in enumerate(rows):
        if place != row:
            samples[place] = samples[row]
    return samples[: len(rows)]
