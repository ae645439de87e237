"""Create and correct the streams on the broker, for ``labelloop broker``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from labelloop.artifacts.store import JETSTREAM
from labelloop.errors import LimitExceeded, WrongState
from labelloop.eventlog.broker_answers import STORAGE_EXCEEDED, RefusedByBroker
from labelloop.eventlog.connection import connect_service
from labelloop.eventlog.retry import retry_while_away
from labelloop.eventlog.stream_differences import Difference, differences, mended, said
from labelloop.eventlog.stream_setup import change_settings, create_stream, read_settings
from labelloop.eventlog.streams import UPLOADS, StreamSpec, artifacts, dead_letters, events, leases, queue, uploads
from labelloop.settings import ServiceSettings
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from labelloop_cli.output.console import console

_EVERY_S = 60.0

Tell = Callable[[str], None]


async def follow_streams(settings: ServiceSettings, upload_bytes_max: int, every_s: float = _EVERY_S) -> None:
    """Do as :func:`update_streams` does, again and again, printing only what differs from the last time.

    Raises as that does, so that whoever supervises the command shows that something is wrong.
    """
    before = set[str]()
    while True:
        now = set[str]()
        await update_streams(settings, upload_bytes_max, tell=partial(_print_new, before, now))
        before = now
        await asyncio.sleep(every_s)


def _print_new(before: set[str], now: set[str], line: str) -> None:
    now.add(line)
    if line not in before:
        _print(line)


def _print(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)


async def update_streams(
    settings: ServiceSettings, upload_bytes_max: int, *, dry_run: bool = False, tell: Tell = _print
) -> None:
    """Create the streams that are missing and correct the others, telling a line for each.

    Raises:
        WrongState: If a stream differs in what the broker cannot change. The others are done before.
        LimitExceeded: If the broker has no room for uploads. The others are done before.
    """
    client = await connect_service(settings, "operator")
    specs = specs_of(settings, upload_bytes_max)
    try:
        left = [problem for spec in specs if (problem := await _update(client, spec, tell, dry_run=dry_run))]
    finally:
        await client.close()
    if left:
        raise left[0]


def specs_of(settings: ServiceSettings, upload_bytes_max: int) -> Sequence[StreamSpec]:
    """Return the streams that an installation needs; uploads come last, because the broker may have no room for them.

    Args:
        upload_bytes_max: What clients may upload in all; 0 for nothing, which takes no stream.
    """
    replicas = settings.replicas
    specs = [events(replicas), leases(replicas), dead_letters(replicas), queue(replicas)]
    specs += [artifacts(replicas)] if settings.artifacts_url == JETSTREAM else []
    return specs + ([uploads(upload_bytes_max, replicas)] if upload_bytes_max else [])


async def _update(client: Client, spec: StreamSpec, tell: Tell, *, dry_run: bool) -> WrongState | LimitExceeded | None:
    """Create or correct one stream; return what is left to say."""
    try:
        standing = await retry_while_away(lambda: read_settings(client, spec.name))
    except NotFoundError:
        return await _make(client, spec, tell, dry_run=dry_run)
    found = differences(spec, standing)
    if (changeable := [each for each in found if each.can_change]) and not dry_run:
        settings = mended(spec, standing, changeable)
        await retry_while_away(lambda: change_settings(client, spec.name, settings))
    tell(f"{spec.name}: {_outcome(changeable, dry_run=dry_run)}")
    others = [each for each in found if not each.can_change]
    if not others:
        return None
    tell(f"{spec.name}: the broker cannot change: {said(others)}")
    message = (
        f"stream {spec.name} differs in what the broker cannot change: {said(others)}; create it anew, from a backup"
    )
    return None if all(each.is_safe for each in others) else WrongState("STREAM_UNSAFE", message, stream=spec.name)


async def _make(client: Client, spec: StreamSpec, tell: Tell, *, dry_run: bool) -> LimitExceeded | None:
    if dry_run:
        tell(f"{spec.name}: would be created")
        return None
    try:
        await retry_while_away(lambda: create_stream(client, spec))
    except RefusedByBroker as error:
        if error.err_code != STORAGE_EXCEEDED or spec.name != UPLOADS:
            raise
        message = (
            f"the broker cannot set {spec.bytes_max:,} bytes aside for uploads, so that the oracle takes none: lower "
            "LABELLOOP_UPLOAD_GB here and for the oracle, or give the broker more disk"
        )
        return LimitExceeded("UPLOADS_FULL", message, field="upload_gb")
    tell(f"{spec.name}: created")
    return None


def _outcome(changeable: Sequence[Difference], *, dry_run: bool) -> str:
    if not changeable:
        return "as it should be" if not dry_run else "nothing to change"
    return f"{'would change' if dry_run else 'changed'}: {said(changeable)}"
