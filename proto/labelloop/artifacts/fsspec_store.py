"""Store artifacts as files under an fsspec URL (``file:///...``, ``s3://...``), named by their digests."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from labelloop.artifacts.filesystems import Trouble, bucket_is_missing, opened, protocols, said, trouble_of
from labelloop.artifacts.store import check_digest, checked, digest_of, is_digest, missing
from labelloop.errors import InvalidInput, LabelloopError, Unready
from labelloop.runtime.crash_points import crash_point
from labelloop.runtime.waiting import waiting

_SETTING = "LABELLOOP_ARTIFACTS_URL"
_OBJECT_STORES = frozenset({"s3", "gs", "abfs"})  # the first of the names that fsspec has for them
_TRIED = b"labelloop was here to see whether it can write and read\n"
_AT_ONCE = 8
_SLOW_S = 60.0

T = TypeVar("T")


class FsspecArtifacts:
    """Artifacts as files, one per artifact.

    Calls that block run in threads of their own: a store that does not answer holds up nothing else.
    """

    def __init__(self, url: str) -> None:
        try:
            self._fs, self._root = opened(url, "artifacts_url")
        except InvalidInput as error:
            raise self._unusable(url, error.message) from error
        self._url, self._root = url, self._root.rstrip("/")
        self._is_object_store = any(name in _OBJECT_STORES for name in protocols(self._fs))
        self._threads = ThreadPoolExecutor(_AT_ONCE, "artifacts")

    async def check(self, *, writing: bool) -> None:
        """Try to read and, for a service that does, to write.

        Raises:
            InvalidInput: If there is no such bucket, or the store refuses: with a sentence that names the setting.
            Unready: If it does not answer for now.
        """
        await self._in_thread(self._check, writing)

    def _check(self, writing: bool) -> None:
        path = self._path(digest_of(_TRIED))
        try:
            if writing:
                self._put(path, _TRIED)
            else:
                self._look_up(path)
        except Exception as error:
            match trouble_of(error):
                case Trouble.MISSING:
                    bucket = self._root.partition("/")[0]
                    what = f"there is no bucket {bucket!r}" if self._is_object_store else said(error)
                    raise self._unusable(self._url, f"{what}: create it, or correct the URL") from error
                case Trouble.UNUSABLE:
                    why = f"{said(error)}: the service must be able to list and read there, trainer and oracle to write"
                    raise self._unusable(self._url, why) from error
            raise self._translated(error) from error

    def _look_up(self, path: str) -> None:
        """Ask for the file at ``path``, which may be missing, as may its folder, but not its bucket."""
        try:
            self._fs.info(path)
        except FileNotFoundError as error:
            if bucket_is_missing(error):
                raise

    async def put(self, data: bytes) -> str:
        digest = digest_of(data)
        crash_point("before put")
        await self._carry_out(self._put, self._path(digest), data)
        crash_point("after put")
        return digest

    def _put(self, path: str, data: bytes) -> None:
        if self._fs.exists(path) and self._fs.cat_file(path) == data:
            return
        if self._is_object_store:
            self._fs.pipe_file(path, data)  # an object appears completely or not at all, in parts or not
            return
        self._fs.makedirs(self._root, exist_ok=True)
        # Renaming a draft makes the artifact appear completely or not at all, and replaces a damaged one. fsspec's
        # transactions would write to the system's temporary folder and copy from there, which a crash may cut short.
        draft = f"{path}.{secrets.token_hex(4)}.draft"
        try:
            self._fs.pipe_file(draft, data)
            self._fs.mv(draft, path)
        except BaseException:
            if self._fs.exists(draft):
                self._fs.rm_file(draft)
            raise

    async def get(self, digest: str) -> bytes:
        check_digest(digest)
        return checked(digest, await self._carry_out(self._get, digest))

    def _get(self, digest: str) -> bytes:
        try:
            data: bytes = self._fs.cat_file(self._path(digest))
        except FileNotFoundError as error:
            if bucket_is_missing(error):
                raise
            raise missing(digest) from error
        return data

    async def remove(self, digest: str) -> bool:
        """Remove an artifact and return whether there was one. Raises Unready if the store fails or refuses."""
        check_digest(digest)
        return await self._carry_out(self._remove, self._path(digest))

    def _remove(self, path: str) -> bool:
        try:
            self._fs.rm_file(path)
        except FileNotFoundError:
            return False
        return True

    async def listed(self) -> list[str]:
        """Return the digests of all artifacts; empty if there is no folder yet."""
        return await self._carry_out(self._list)

    def _list(self) -> list[str]:
        try:
            paths: list[str] = self._fs.ls(self._root, detail=False, refresh=True)
        except FileNotFoundError:
            return []
        names = (path.rstrip("/").rpartition("/")[2] for path in paths)
        return sorted(name for name in names if is_digest(name))

    def _path(self, digest: str) -> str:
        return f"{self._root}/{digest}"

    async def _carry_out(self, work: Callable[..., T], *arguments: object) -> T:
        """Run ``work`` in a thread; raise Unready if the store fails for now, for example because it is full."""
        slow_at = asyncio.get_running_loop().time() + _SLOW_S
        try:
            with waiting("the artifact store", lambda: self._slow(slow_at)):
                return await self._in_thread(work, *arguments)
        except Exception as error:
            if (translated := self._translated(error)) is error:
                raise
            raise translated from error

    def _slow(self, slow_at: float) -> str:
        """Return that the store does not answer, once it should have; large artifacts may take some time."""
        if asyncio.get_running_loop().time() < slow_at:
            return ""
        return f"the artifact store at {self._root} has not answered for {_SLOW_S:.0f} s: see that it can be reached"

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def _translated(self, error: Exception) -> Exception:
        if isinstance(error, LabelloopError) or trouble_of(error) is None:
            return error
        message = f"the artifact store at {self._root} fails: {said(error)}; the run goes on once it works again"
        return Unready("ARTIFACT_STORE_FAILS", message, retry_after_s=1, store=self._root)

    def _unusable(self, url: str, why: str) -> InvalidInput:
        message = f"{_SETTING}={url} cannot be used: {why}"
        return InvalidInput("BAD_ARTIFACTS_URL", message, field="artifacts_url", url=url)
