"""Read files from S3 and Google Cloud Storage, with the credentials that their libraries find where the oracle runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labelloop.domain.remote_urls import RemoteUrl

from oracle_svc.remote.objects import OBJECTS_MAX, RemoteObject

_BLOCK_BYTES = 8 * 2**20
_STAMPS = ("ETag", "etag", "generation", "VersionId", "LastModified", "updated", "created")


class Buckets:
    """Files on the object store that ``filesystem``, of fsspec, reads."""

    def __init__(self, filesystem: Any) -> None:
        self._filesystem = filesystem

    def listed(self, url: RemoteUrl) -> list[RemoteObject]:
        path = _path(url)
        found = self._filesystem.info(path)
        if found["type"] == "file":
            return [RemoteObject(url.name, int(found["size"]), _stamp(found))]
        below = f"{path}/"
        entries = self._pages(url) if hasattr(self._filesystem, "call_s3") else self._found(path)
        objects = []
        for key, entry in entries:
            size = int(entry["Size"] if "Size" in entry else entry["size"])
            if size or not key.endswith("/"):  # an empty one stands for a folder
                objects.append(RemoteObject(f"{url.name}/{key.removeprefix(below)}", size, _stamp(entry)))
            if len(objects) > OBJECTS_MAX:
                break
        return sorted(objects)

    def _pages(self, url: RemoteUrl) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield entries page by page, so that a bucket of any size takes little memory."""
        more: dict[str, str] = {}
        while True:
            prefix = f"{url.path}/" if url.path else ""
            page = self._filesystem.call_s3("list_objects_v2", Bucket=url.host, Prefix=prefix, **more)
            for entry in page.get("Contents", ()):
                yield f"{url.host}/{entry['Key']}", entry
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _found(self, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for name, entry in self._filesystem.find(path, detail=True).items():
            yield name.lstrip("/"), entry

    def blocks(self, url: RemoteUrl, each: RemoteObject) -> Iterator[bytes]:
        path = "/".join([_path(url), *each.name.split("/")[1:]])
        for start in range(0, each.size, _BLOCK_BYTES):
            yield self._filesystem.cat_file(path, start=start, end=min(start + _BLOCK_BYTES, each.size))


def _path(url: RemoteUrl) -> str:
    return f"{url.host}/{url.path}".rstrip("/")


def _stamp(entry: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={entry[name]}" for name in _STAMPS if entry.get(name))
