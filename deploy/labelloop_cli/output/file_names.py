"""Turn names of samples into names of files that every system accepts. No I/O."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from unicodedata import normalize

_SUFFIXES = {
    "image/png": (".png",),
    "image/jpeg": (".jpg", ".jpeg", ".jfif", ".jpe"),
    "image/gif": (".gif",),
    "image/webp": (".webp",),
    "image/bmp": (".bmp",),
    "image/tiff": (".tif", ".tiff"),
    "image/avif": (".avif",),
    "image/svg+xml": (".svg",),
    "image/jp2": (".jp2",),
}
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]')
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # names that Windows keeps for itself
_BYTES_MAX = 200  # file systems take 255, and a number may be added


class FileNames:
    """Gives each sample a file name of its own in one folder."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, name: str, media_type: str) -> str:
        """Return a file name for a sample: like its name, but in one folder, unique, and with the type's suffix.

        Names that differ only in case or composition count as equal, as some file systems have it.
        """
        stem, suffix = _parts(name, media_type)
        number, found = 1, stem + suffix
        while normalize("NFC", found).casefold() in self._taken:
            number += 1
            found = f"{stem}-{number}{suffix}"
        self._taken.add(normalize("NFC", found).casefold())
        return found


def _parts(name: str, media_type: str) -> tuple[str, str]:
    safe = _FORBIDDEN.sub("_", name).strip(" .")
    if not safe or _DEVICE.fullmatch(safe):
        safe = f"_{safe}"
    suffixes = _SUFFIXES.get(media_type, (".bin",))
    given = PurePosixPath(safe).suffix
    suffix = given if given.lower() in suffixes else suffixes[0]
    stem = safe.removesuffix(given) if suffix == given else safe
    return _cut(stem), suffix


def _cut(stem: str) -> str:
    return stem.encode()[:_BYTES_MAX].decode(errors="ignore").rstrip(" .") or "_"
