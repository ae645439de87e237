"""The artifact store at an fsspec URL."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Event

import pytest
from labelloop.artifacts.fsspec_store import FsspecArtifacts
from labelloop.artifacts.store import digest_of
from labelloop.errors import Corrupt, InvalidInput, NotFound
from labelloop.runtime import waiting

from tests.integration.one_oracle import until
from tests.patience import PATIENCE_S


async def test_an_artifact_put_twice_is_stored_once_and_read_back(tmp_path: Path) -> None:
    store = FsspecArtifacts(f"file://{tmp_path}/artifacts")
    digest = await store.put(b"a model")
    await store.put(b"a model")
    assert digest == digest_of(b"a model")
    assert await store.get(digest) == b"a model"
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == [digest]


async def test_altered_bytes_are_never_returned(tmp_path: Path) -> None:
    store = FsspecArtifacts(f"file://{tmp_path}")
    digest = await store.put(b"a model")
    (tmp_path / digest).write_bytes(b"A model")
    with pytest.raises(Corrupt, match="other bytes"):
        await store.get(digest)


@pytest.mark.parametrize("text", ["../outside", "", "a" * 3_000_000, "0" * 63 + "G"])
async def test_what_is_no_digest_reaches_no_path(tmp_path: Path, text: str) -> None:
    (tmp_path / "outside").write_bytes(b"a secret")
    with pytest.raises(InvalidInput, match="no SHA-256"):
        await FsspecArtifacts(f"file://{tmp_path}/artifacts").get(text)


async def test_an_unknown_digest_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await FsspecArtifacts(f"file://{tmp_path}").get("0" * 64)


async def test_a_store_that_does_not_answer_for_long_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SAY_AFTER_S", 0.05)
    monkeypatch.setattr("labelloop.artifacts.fsspec_store._SLOW_S", 0.1)
    store, answers, told = FsspecArtifacts(f"file://{tmp_path}/artifacts"), Event(), list[str]()
    digest = await store.put(b"a model")
    monkeypatch.setattr(store, "_get", lambda digest: answers.wait(PATIENCE_S) and b"a model")
    waiting.tell_waits_to(told.append)
    reading = asyncio.create_task(store.get(digest))
    await until(lambda: any(told))
    assert told[-1].startswith(f"the artifact store at {tmp_path}/artifacts has not answered")
    answers.set()
    assert await reading == b"a model"
    assert told[-1] == ""


def test_an_unknown_kind_of_store_is_refused() -> None:
    with pytest.raises(InvalidInput, match="carrier-pigeon"):
        FsspecArtifacts("carrier-pigeon://coop")
