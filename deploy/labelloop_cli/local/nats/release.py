"""Download nats-server from its official release and verify its digest."""

from __future__ import annotations

import hashlib
import io
import tarfile
import tempfile
import threading
import time
from pathlib import Path
from queue import Empty, SimpleQueue

import httpx
from labelloop.errors import Corrupt, NotFound

from labelloop_cli.local.host import Host

VERSION = "v2.12.7"
_RELEASES = "https://github.com/nats-io/nats-server/releases/download"
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_TIMEOUT = httpx.Timeout(10.0, connect=3.0)
_ANSWER_WITHIN_S = 8.0
_DOWNLOAD_WITHIN_S = 300.0
_DOWNLOAD_BYTES_MAX = 128 * 1024 * 1024  # an archive has 7 MB, its program 18


def from_release(cache: Path, host: Host) -> Path:
    """Download the release and keep its nats-server under ``cache``.

    Raises NotFound if it cannot be had, soon if there is no network, and Corrupt if its digest does not match.
    """
    release = _release_name(host)
    sums = _within(_ANSWER_WITHIN_S, host, "SHA256SUMS").decode(errors="replace")
    archive = _checked(_download(host, f"{release}.tar.gz"), f"{release}.tar.gz", sums)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        program = Path(folder) / "nats-server"
        program.write_bytes(_member(archive, f"{release}/nats-server"))
        program.chmod(0o755)
        kept = cache / VERSION / "nats-server"
        kept.parent.mkdir(exist_ok=True)
        return program.replace(kept)


def _release_name(host: Host) -> str:
    architecture = _ARCHITECTURES.get(host.architecture)
    if host.system not in {"linux", "darwin"} or architecture is None:
        kind = f"{host.system} on {host.architecture}"
        raise NotFound("NO_RELEASE", f"none is known to work here for {kind}", kind=kind)
    return f"nats-server-{VERSION}-{host.system}-{architecture}"


def _within(seconds: float, host: Host, name: str) -> bytes:
    """Download the small file ``name`` of the release. Raises NotFound if it has not arrived after ``seconds``."""
    answers: SimpleQueue[bytes | NotFound] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_download(host, name))
        except NotFound as error:
            answers.put(error)

    # A daemon thread: name resolution ignores timeouts, and exit should not wait for it either.
    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except Empty:
        raise NotFound("NO_NETWORK", f"github.com did not answer within {seconds:.0f} s") from None
    if isinstance(answer, NotFound):
        raise answer
    return answer


def _download(host: Host, name: str) -> bytes:
    url = f"{_RELEASES}/{VERSION}/{name}"
    deadline = time.monotonic() + _DOWNLOAD_WITHIN_S
    body = io.BytesIO()
    try:
        with (
            httpx.Client(transport=host.transport, timeout=_TIMEOUT, follow_redirects=True) as client,
            client.stream("GET", url) as response,
        ):
            response.raise_for_status()
            for chunk in response.iter_bytes():
                body.write(chunk)
                if body.tell() > _DOWNLOAD_BYTES_MAX:
                    message = f"{url} has more than {_DOWNLOAD_BYTES_MAX:,} bytes, which no release has"
                    raise NotFound("DOWNLOAD_FAILED", message, url=url)
                if time.monotonic() > deadline:
                    raise NotFound("DOWNLOAD_FAILED", f"{url} took longer than {_DOWNLOAD_WITHIN_S:.0f} s", url=url)
    except httpx.HTTPError as error:
        raise NotFound("DOWNLOAD_FAILED", f"{url}: {error or type(error).__name__}", url=url) from error
    return body.getvalue()


def _checked(data: bytes, name: str, sums: str) -> bytes:
    lines = [line.split() for line in sums.splitlines()]
    expected = next((line[0] for line in lines if line[1:] == [name]), "(not listed)")
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected:
        message = (
            f"{name} of {VERSION} is not what the release's SHA256SUMS says: its SHA-256 is {digest}, not {expected}; "
            "something on the way alters downloads, so get nats-server another way"
        )
        raise Corrupt("NATS_SERVER_ALTERED", message, file=name, digest=digest, expected=expected)
    return data


def _member(archive: bytes, name: str) -> bytes:
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            file = tar.extractfile(name)
            if file is None:
                raise KeyError(name)
            with file:
                return file.read()
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise NotFound("DOWNLOAD_FAILED", f"the release holds no {name}: {error}", name=name) from error
