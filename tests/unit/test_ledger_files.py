"""Exported runs are read piece by piece, and hostile archives are refused with a message before they are unpacked."""

from __future__ import annotations

import io
import os
import random
import stat
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from google.protobuf import json_format
from labelloop.artifacts.store import digest_of
from labelloop.errors import InvalidInput, LabelloopError, LimitExceeded, NotFound
from labelloop.trainer.v1.trainer_pb2 import ExportRunResponse, ImportRunRequest
from labelloop_cli.ledger import members, reading
from labelloop_cli.ledger.members import ARTIFACTS, EVENTS
from labelloop_cli.ledger.reading import opened
from labelloop_cli.ledger.sending import Parts
from labelloop_cli.operations.archive import _write

from tests.exported_run import ARTIFACTS as DATA
from tests.exported_run import INDEX, MANIFEST, exported_events, import_parts

LINES = [json_format.MessageToJson(event, indent=None).encode() + b"\n" for event in exported_events()]
MEMBERS = {EVENTS: b"".join(LINES), **{f"{ARTIFACTS}{digest_of(data)}": data for data in DATA}}


def zipped(parts: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return file.getvalue()


async def read(path: Path, run_id: str = "") -> list[ImportRunRequest]:
    with opened(path) as ledger:
        return [part async for part in Parts(ledger, run_id).sent()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.zip"


async def test_a_sound_archive_is_read_in_the_order_that_the_trainer_checks(path: Path) -> None:
    names = sorted(MEMBERS, key=lambda name: name == f"{ARTIFACTS}{digest_of(MANIFEST.to_bytes())}")  # the last
    path.write_bytes(zipped({name: MEMBERS[name] for name in names}))
    sent = await read(path)
    assert [part.event for part in sent if part.HasField("event")] == exported_events()
    artifacts = list(dict.fromkeys(part.artifact.sha256 for part in sent if part.HasField("artifact")))
    assert artifacts[:2] == [digest_of(MANIFEST.to_bytes()), digest_of(INDEX.to_bytes())]
    assert set(artifacts) == set(map(digest_of, DATA))
    joined = {digest: b"".join(p.artifact.data for p in sent if p.artifact.sha256 == digest) for digest in artifacts}
    assert all(digest_of(data) == digest for digest, data in joined.items())


async def test_a_run_is_sent_under_another_id(path: Path) -> None:
    path.write_bytes(zipped(MEMBERS))
    sent = await read(path, "other")
    assert [part.event for part in sent if part.HasField("event")] == exported_events("other")


async def test_what_is_exported_is_read_the_same(path: Path) -> None:
    parts = [ExportRunResponse.FromString(part.SerializeToString()) for part in import_parts(exported_events())]

    async def answered() -> AsyncIterator[ExportRunResponse]:
        for part in parts:
            yield part

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        assert await _write(answered(), archive) == (len(exported_events()), len(DATA))
    with zipfile.ZipFile(path) as archive:
        assert {name: archive.read(name) for name in archive.namelist() if name != EVENTS} == {
            name: data for name, data in MEMBERS.items() if name != EVENTS
        }
    assert [part.event for part in await read(path) if part.HasField("event")] == exported_events()


def patched(at: bytes, offset: int, data: bytes, *, last: bool = True) -> bytes:
    """Return a sound archive with ``data`` written over the directory entry that begins with ``at``."""
    whole = bytearray(zipped(MEMBERS))
    start = (whole.rindex(at) if last else whole.index(at)) + offset
    whole[start : start + len(data)] = data
    return bytes(whole)


ENTRY, END = b"PK\x01\x02", b"PK\x05\x06"


def doubled() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for data in (MEMBERS[EVENTS], b"another"):
            archive.writestr(EVENTS, data)
    return file.getvalue()


def overlapping() -> bytes:
    """Return an archive of which every artifact is the same bytes, with a directory entry each."""
    whole = zipped({EVENTS: MEMBERS[EVENTS], f"{ARTIFACTS}{'0' * 64}": bytes(1_000)}, zipfile.ZIP_STORED)
    start, end = whole.rindex(ENTRY), whole.rindex(END)
    quoted = [whole[start:end].replace(b"0" * 64, b"%064d" % number) for number in range(50)]
    tail = bytearray(whole[end:])
    struct.pack_into("<HHI", tail, 8, 51, 51, len(whole[whole.index(ENTRY) : start]) + sum(map(len, quoted)))
    return whole[:start] + b"".join(quoted) + bytes(tail)


def bombs() -> Iterator[tuple[type[LabelloopError], str, Callable[[], bytes]]]:
    names = ("../../etc/passwd", "/etc/passwd", f"{ARTIFACTS}x", f"{ARTIFACTS}../{'0' * 64}", "events.jsonl/", "C:\\x")
    for name in names:
        yield InvalidInput, "does not belong there", partial(zipped, {**MEMBERS, name: b""})
    yield InvalidInput, "there twice", doubled
    yield InvalidInput, "has no events", lambda: zipped({})
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield InvalidInput, "compressed by method", partial(zipped, MEMBERS, method)
    yield InvalidInput, "method 99", lambda: patched(ENTRY, 10, b"\x63\x00")
    yield InvalidInput, "encrypted", lambda: patched(ENTRY, 8, b"\x01\x00")
    yield InvalidInput, "share bytes", overlapping
    yield InvalidInput, "share bytes|outside", lambda: patched(ENTRY, 42, b"\x00\x00\x00\x00")
    yield InvalidInput, "outside|share|read", lambda: patched(ENTRY, 20, b"\xff\xff\xff\x0f")
    yield LimitExceeded, "allowed", lambda: patched(ENTRY, 24, b"\xfe\xff\xff\xff")
    yield LimitExceeded, "would become", lambda: zipped({EVENTS: bytes(100_000_000)})
    yield InvalidInput, "cannot be read", lambda: patched(END, 12, b"\xff\xff\xff\x7f")
    yield InvalidInput, "cannot be read", lambda: b""
    yield InvalidInput, "cannot be read", lambda: b"no zip"
    yield InvalidInput, "line 8 .* is no event", lambda: zipped({EVENTS: MEMBERS[EVENTS] + b"{\n"})
    yield InvalidInput, "line 1 .* is no event", lambda: zipped({EVENTS: b"[" * 100_000})
    yield InvalidInput, "line 1 .* is no event", lambda: zipped({EVENTS: b"\xff\xfe\n"})
    yield InvalidInput, "line 1 .* is no event", lambda: zipped({EVENTS: b'{"round": 1e999}\n'})
    yield InvalidInput, "line 1 .* is no event", lambda: zipped({EVENTS: b'{"round": ' + b"9" * 5_000 + b"}\n"})
    yield LimitExceeded, "a line of", lambda: zipped({EVENTS: b" " * 20_000_000})
    no_manifest = {**MEMBERS, f"{ARTIFACTS}{digest_of(MANIFEST.to_bytes())}": b"{}"}
    yield InvalidInput, "no pool manifest", lambda: zipped(no_manifest)


@pytest.mark.parametrize(("kind", "why", "made"), list(bombs()))
async def test_hostile_archives_are_refused_with_a_message(
    path: Path, kind: type[LabelloopError], why: str, made: Callable[[], bytes]
) -> None:
    path.write_bytes(made())
    tracemalloc.start()
    try:
        with pytest.raises(kind, match=why) as refused:
            await read(path)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()
    assert refused.value.field == "path"


async def test_an_archive_that_lists_too_many_files_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MEMBERS_MAX", 100)
    path.write_bytes(zipped({EVENTS: b"", **{f"{ARTIFACTS}{number:064}": b"" for number in range(101)}}))
    with pytest.raises(LimitExceeded, match="lists more than 100 files"):
        await read(path)


async def test_memory_does_not_grow_with_what_an_archive_holds(path: Path) -> None:
    padded = LINES[0][:-1] + b" " * 1_000_000 + b"\n"
    path.write_bytes(zipped({EVENTS: padded * 60}))
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    try:
        with opened(path) as ledger:
            assert sum(1 for _ in ledger.events()) == 60
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("seed", range(300))
async def test_damaged_archives_are_read_or_refused_but_nothing_else(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    whole = bytearray(zipped(MEMBERS, rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED))))
    directory = whole.index(ENTRY)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(rng.choice((0, directory)), len(whole))
        whole[at] = rng.choice((0, 255, rng.randrange(256)))
    path.write_bytes(whole[: rng.choice((len(whole), rng.randrange(len(whole))))])
    with suppress(LabelloopError):
        await read(path)


async def test_only_plain_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", stat.S_IRUSR | stat.S_IWUSR)
    for name in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(InvalidInput, match="no plain file"):
            await read(name)
    with pytest.raises(NotFound, match="there is no file"):
        await read(tmp_path / "missing")


def test_what_we_write_stays_within_the_ratio(tmp_path: Path) -> None:
    size = 100_000_000
    with zipfile.ZipFile(tmp_path / "zeros.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(f"{ARTIFACTS}{'0' * 64}", bytes(size))
    assert size / (tmp_path / "zeros.zip").stat().st_size < members._RATIO_MAX
