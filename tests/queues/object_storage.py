"""A bucket in S3, simulated by moto."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from tests.queues.sqs_tool import MotoProcess


class Bucket:
    """A bucket of its own, with what the tests ask of it."""

    def __init__(self, moto: MotoProcess) -> None:
        self._client = moto.client("s3")
        self.name = f"bucket-{uuid4().hex}"
        region = {"LocationConstraint": self._client.meta.region_name}
        self._client.create_bucket(Bucket=self.name, CreateBucketConfiguration=region)

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def put(self, key: str, data: bytes, **metadata: str) -> str:
        """Write an object, and return its URL."""
        self._client.put_object(Bucket=self.name, Key=key, Body=data, Metadata=metadata)
        return f"{self.url}/{key}"

    def delete(self, key: str) -> None:
        self._client.delete_object(Bucket=self.name, Key=key)

    def keys(self) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def head(self, key: str) -> dict[str, Any]:
        return dict(self._client.head_object(Bucket=self.name, Key=key))

    def close(self) -> None:
        self._client.close()
