"""Bounds on the JSON of manifests and indexes: hostile bytes cost no more than honest ones."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from labelloop.artifacts.formats import SHARD_SAMPLES, PoolManifest, SampleIndex
from labelloop.errors import Corrupt
from pydantic import ValidationError

DIGEST = "ab" * 32


def manifest(shards: bytes, shape: bytes = b"784") -> bytes:
    return b'{"dtype":"uint8","shape":[' + shape + b'],"shards":[' + shards + b"]}"


def names(items: bytes) -> bytes:
    return b'{"names":[' + items + b"]}"


@pytest.mark.parametrize(
    ("data", "parse"),
    [
        (manifest(b"{}" + b",{}" * 1_000), PoolManifest.from_bytes),
        (manifest(b'"a"' + b',"a"' * 1_000), PoolManifest.from_bytes),
        (manifest(b"{}", b'"a"' + b',"a"' * 1_000).replace(b'"shards":[{}]', b'"shards":[]'), PoolManifest.from_bytes),
        (names(b"0" + b",0" * 1_000), lambda data: SampleIndex.from_bytes(data, 1)),
        (
            names(b"").replace(b"names", b"files")[:-2] + b'""' + b',""' * 1_000 + b"]}",
            lambda data: SampleIndex.from_bytes(data, 1),
        ),
    ],
    ids=["shards", "no shards", "shape", "names", "files"],
)
def test_parsing_ends_at_the_first_error_of_a_list(data: bytes, parse: Callable[[bytes], object]) -> None:
    with pytest.raises(Corrupt, match="this artifact is no") as caught:
        parse(data)
    assert isinstance(caught.value.__cause__, ValidationError)
    assert caught.value.__cause__.error_count() <= 3


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (manifest(b"{}" + b",{}" * 100_000), "BAD_MANIFEST"),
        (manifest(b"", b"1" + b",1" * 3_000_000), "BAD_MANIFEST"),
        (names(b"{ }" + b",{ }" * 500_000), "BAD_INDEX"),
        (names(b'""' + b',""' * 12_000_000), "BAD_INDEX"),
    ],
    ids=["shards", "shape", "objects for names", "names"],
)
def test_more_than_honest_pools_hold_is_refused_unparsed(
    data: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (PoolManifest, SampleIndex):
        monkeypatch.setattr(kind, "model_validate_json", lambda data: pytest.fail("a parser saw it"))
    with pytest.raises(Corrupt, match="more than") as caught:
        PoolManifest.from_bytes(data) if reason == "BAD_MANIFEST" else SampleIndex.from_bytes(data, SHARD_SAMPLES)
    assert caught.value.reason == reason


def test_a_pool_of_a_billion_samples_is_parsed() -> None:
    shards = [{"sha256": DIGEST, "sample_count": SHARD_SAMPLES, "index": DIGEST}] * 17_000
    data = json.dumps({"dtype": "uint8", "shape": [784], "shards": shards}, separators=(",", ":")).encode()
    assert PoolManifest.from_bytes(data).sample_count == 1_020_000_000


def test_a_full_shard_of_long_names_with_brackets_is_parsed() -> None:
    index = SampleIndex(
        names=tuple(f"[{n}] {{{'x' * 200}}}" for n in range(SHARD_SAMPLES)), files=(DIGEST,) * SHARD_SAMPLES
    )
    assert SampleIndex.from_bytes(index.to_bytes(), SHARD_SAMPLES) == index
