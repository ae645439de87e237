"""Open file systems and object stores through fsspec, and classify what goes wrong with them."""

from __future__ import annotations

import logging
from enum import Enum
from typing import Any

import fsspec

from labelloop.errors import InvalidInput

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
_TRIES = 2  # of s3fs, each of up to five tries of botocore, with pauses
_SHOWN_CHARACTERS = 300

# Libraries below fsspec raise errors of their own, most of which derive from Exception alone.
_LIBRARIES = frozenset({"aiobotocore", "aiohttp", "botocore", "fsspec", "gcsfs", "google", "requests", "s3fs"})
_UNUSABLE = frozenset(
    {
        "DefaultCredentialsError",
        "NoCredentialsError",
        "NoRegionError",
        "ParamValidationError",
        "PartialCredentialsError",
        "ProfileNotFound",
    }
)


class Trouble(Enum):
    """What an error of a file system means for the caller."""

    MISSING = "there is no such file, folder or bucket"
    UNUSABLE = "it refuses, or its settings are wrong: trying again does not help"
    AWAY = "it fails for now"


def opened(url: str, field: str) -> tuple[Any, str]:
    """Return the fsspec file system of ``url``, and the path there.

    Listings are not cached: what another process writes is seen at once. The file system belongs to the process that
    opened it, and is not to be used after a fork.

    Raises:
        InvalidInput: If the protocol is unknown, or its library is not installed. ``field`` is named by the error.
    """
    try:
        filesystem, path = fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        scheme = url.partition(":")[0].lower()
        how = f"pip install 'labelloop[{_EXTRAS[scheme]}]'" if scheme in _EXTRAS else str(error)
        message = f"{scheme}:// needs a library that is not installed where the service runs: {how}"
        raise InvalidInput("NO_LIBRARY", message, field=field, url=url) from error
    except ValueError as error:
        raise InvalidInput("BAD_URL", str(error), field=field, url=url) from error
    if "s3" in protocols(filesystem):
        filesystem.retries = _TRIES
    if "gs" in protocols(filesystem):  # it logs what it raises too, with a traceback
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    return filesystem, path


def protocols(filesystem: Any) -> tuple[str, ...]:
    names = filesystem.protocol
    return (names,) if isinstance(names, str) else tuple(names)


def trouble_of(error: BaseException) -> Trouble | None:
    """Return what an error of a file system means; None for an error that is not of a file system."""
    if isinstance(error, FileNotFoundError):
        return Trouble.MISSING
    kinds = type(error).__mro__
    if isinstance(error, PermissionError) or any(kind.__name__ in _UNUSABLE for kind in kinds):
        return Trouble.UNUSABLE
    if isinstance(error, OSError):  # gcsfs says it by text alone
        return Trouble.UNUSABLE if str(error).startswith("Forbidden") else Trouble.AWAY
    if any(kind.__module__.partition(".")[0] in _LIBRARIES for kind in kinds):
        return Trouble.AWAY
    return Trouble.UNUSABLE if isinstance(error, ValueError) else None  # botocore's for an endpoint that is no URL


def bucket_is_missing(error: BaseException) -> bool:
    """Return whether an S3 error says that the whole bucket is missing, not an object."""
    response = getattr(error.__cause__, "response", None) or {}
    return bool(response.get("Error", {}).get("Code") == "NoSuchBucket")


def said(error: BaseException) -> str:
    """Return an error's text in one line, or its kind if it has none."""
    return " ".join(str(error).split())[:_SHOWN_CHARACTERS] or type(error).__name__
