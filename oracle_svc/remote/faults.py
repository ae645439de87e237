"""Say in a sentence why a remote file cannot be read."""

from __future__ import annotations

import ssl

import httpx
from labelloop.artifacts.filesystems import Trouble, bucket_is_missing, said, trouble_of
from labelloop.domain.remote_urls import RemoteUrl
from labelloop.errors import InvalidInput, LabelloopError, NotAllowed, NotFound, Unready

_RETRY_S = 5.0
_MISSING, _REFUSED, _LATER = (404, 410), (401, 403, 407), (408, 425, 429)


def fault_of(error: Exception, url: RemoteUrl) -> LabelloopError | None:
    """Return the error to raise for one of a source; None if it is not of the network or the store."""
    if isinstance(error, httpx.HTTPStatusError):
        return _of_status(error.response.status_code, url)
    if isinstance(error, httpx.HTTPError):
        return _away(url, _cause(error))
    match trouble_of(error):
        case Trouble.MISSING:
            what = f"there is no bucket {url.host!r}" if bucket_is_missing(error) else f"there is no {str(url)!r}"
            return _missing(url, what)
        case Trouble.UNUSABLE:
            return _refused(url, said(error))
        case Trouble.AWAY:
            return _away(url, said(error))
    return None


def _of_status(status: int, url: RemoteUrl) -> LabelloopError:
    if status in _MISSING:
        return _missing(url, f"there is no {str(url)!r} (HTTP {status})")
    if status in _REFUSED:
        return _refused(url, f"HTTP {status}")
    if status in _LATER or status >= 500:
        return _away(url, f"HTTP {status}")
    message = f"{str(url)!r} cannot be read: its server answers with HTTP {status}"
    return InvalidInput("REMOTE_ANSWER", message, url=url, status=status)


def _missing(url: RemoteUrl, what: str) -> NotFound:
    return NotFound("NO_SUCH_FILE", f"{what}: correct the URL", url=url)


def _refused(url: RemoteUrl, why: str) -> NotAllowed:
    message = (
        f"{str(url)!r} may not be read with the oracle's credentials ({why}): ask its operator to allow reading and "
        "listing there"
    )
    return NotAllowed("REMOTE_REFUSED", message, url=url)


def _away(url: RemoteUrl, why: str) -> Unready:
    message = f"{str(url)!r} cannot be read now ({why}): see whether {url.host!r} is right and up, and try again"
    return Unready("REMOTE_AWAY", message, retry_after_s=_RETRY_S, url=url)


def _cause(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    certificate = isinstance(error.__cause__, ssl.SSLError) or "CERTIFICATE" in str(error)
    return f"its certificate: {said(error)}" if certificate else said(error)
