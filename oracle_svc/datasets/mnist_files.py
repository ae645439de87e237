"""Read MNIST's four files as bytes from the operator's folder, the cache or a mirror, and verify their digests."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from labelloop.errors import Corrupt, InvalidInput, LabelloopError, NotFound

from .mirrors import ANSWER_WITHIN_S, MNIST_MIRRORS, Fetch, answering, succeeds
from .reading import unpacked

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class MnistFile:
    """One of MNIST's files.

    Attributes:
        name: The file's name without ``.gz``.
        sha256: SHA-256 of its uncompressed bytes, in hex.
    """

    name: str
    sha256: str


# Training images and labels, test images and labels: the order in which mnist.py reads them.
MNIST_FILES = (
    MnistFile("train-images-idx3-ubyte", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    MnistFile("train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    MnistFile("t10k-images-idx3-ubyte", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    MnistFile("t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
)


def in_data_dir(data_dir: Path, files: Sequence[MnistFile] = MNIST_FILES) -> list[Path]:
    """Return the paths at which :func:`from_data_dir` looks for the files, plain or compressed."""
    names = [name for file in files for name in (file.name, f"{file.name}.gz")]
    return [folder / name for folder in (data_dir, data_dir / "mnist") for name in names]


def from_data_dir(data_dir: Path, files: Sequence[MnistFile]) -> list[bytes] | None:
    """Read the files from ``data_dir`` or ``data_dir/mnist``; return None if neither holds any of them.

    Raises NotFound if some are missing, Corrupt if one is damaged or altered, InvalidInput if one cannot be read: an
    operator who put files there wants those, not a download in their place.
    """
    try:
        for folder in (data_dir, data_dir / "mnist"):
            paths = [_stored(folder, file) for file in files]
            if any(paths):
                return [_checked_at(path, folder, file) for path, file in zip(paths, files, strict=True)]
    except OSError as error:  # no permission, a failing disk
        raise InvalidInput("UNREADABLE", f"the data folder cannot be read: {error}", error=error) from error
    log.warning("mnist_not_in_data_dir", data_dir=str(data_dir))
    return None


def from_cache_or_mirrors(
    cache: Path,
    files: Sequence[MnistFile],
    fetch: Fetch,
    *,
    mirrors: Sequence[str] = MNIST_MIRRORS,
    answer_within_s: float = ANSWER_WITHIN_S,
) -> list[bytes] | None:
    """Read the files from ``cache``, downloading missing ones from a mirror into it; return None if that fails."""
    contents = {file: data for file in files if (data := _cached(cache, file)) is not None}
    probed = files[-1]  # the smallest, to find out which mirrors respond

    def complete(mirror: str) -> None:
        for file in files:
            if file not in contents:
                contents[file] = _downloaded(mirror, file, fetch)
                _keep(cache / file.name, contents[file])

    if len(contents) < len(files):
        for mirror in answering(mirrors, lambda m: _downloaded(m, probed, fetch), within_s=answer_within_s):
            if succeeds(complete, mirror):
                break
    return [contents[file] for file in files] if len(contents) == len(files) else None


def _stored(folder: Path, file: MnistFile) -> Path | None:
    paths = (folder / file.name, folder / f"{file.name}.gz")
    return next((path for path in paths if path.is_file()), None)


def _checked_at(path: Path | None, folder: Path, file: MnistFile) -> bytes:
    if path is None:
        raise NotFound(
            "MNIST_FILE_MISSING",
            f"{folder} holds a part of MNIST, but not {file.name} (or {file.name}.gz): add it, or remove the others",
            folder=folder,
            file=file.name,
        )
    return _checked(path.read_bytes(), file, str(path))


def _checked(data: bytes, file: MnistFile, origin: str) -> bytes:
    """Return ``data`` uncompressed. Raises Corrupt if its digest is not that of ``file``."""
    content = unpacked(data, origin)
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise Corrupt(
            "MNIST_FILE_ALTERED",
            f"{origin} is not MNIST's {file.name}: its SHA-256 (uncompressed) is {digest}, not {file.sha256}. "
            "Replace it with a whole copy, or remove all of MNIST there to have it downloaded",
            origin=origin,
            file=file.name,
            digest=digest,
            expected=file.sha256,
        )
    return content


def _cached(cache: Path, file: MnistFile) -> bytes | None:
    try:
        path = _stored(cache, file)
        return _checked(path.read_bytes(), file, str(path)) if path else None
    except (LabelloopError, OSError) as error:  # the download that follows overwrites it
        log.warning("mnist_cache_discarded", cache=str(cache), file=file.name, error=str(error))
        return None


def _downloaded(mirror: str, file: MnistFile, fetch: Fetch) -> bytes:
    url = f"{mirror}{file.name}.gz"
    return _checked(fetch(url), file, url)


def _keep(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically; no flush to disk, because reading verifies the digest."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            part = Path(folder) / path.name
            part.write_bytes(data)
            part.replace(path)
    except OSError as error:  # read-only or full: the data is usable even if it cannot be cached
        log.warning("mnist_cache_not_written", path=str(path), error=str(error))
