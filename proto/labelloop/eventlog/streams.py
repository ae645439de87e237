"""Define the streams that labelloop keeps on the broker, and what their settings must be. Pure.

Services and the operator's command read the same table: what a service needs is what the command makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labelloop.eventlog.subjects import ARTIFACT_BUCKET, EVERYTHING, PREFIX, STREAM

LEASES, LEASES_PREFIX = "LABELLOOP_LEASES", "labelloop-leases.v1"
DEAD_LETTERS, DEAD_LETTERS_PREFIX = "LABELLOOP_DEAD", "labelloop-dead.v1"
UPLOADS, UPLOADS_PREFIX = "LABELLOOP_UPLOADS", "labelloop-uploads.v1"
QUEUE, QUEUE_PREFIX = "LABELLOOP_QUEUE", "labelloop-queue.v1"
ARTIFACTS = f"OBJ_{ARTIFACT_BUCKET}"
_BY_PREFIX = {
    PREFIX: STREAM,
    LEASES_PREFIX: LEASES,
    DEAD_LETTERS_PREFIX: DEAD_LETTERS,
    UPLOADS_PREFIX: UPLOADS,
    QUEUE_PREFIX: QUEUE,
    f"$O.{ARTIFACT_BUCKET}": ARTIFACTS,
}

LEASES_KEPT_S = 14 * 24 * 3600
DEAD_LETTERS_BYTES_MAX = 64 * 1024 * 1024
UPLOAD_GB = 2.0
_QUEUE_KEPT_S = 30 * 24 * 3600
_NO_LIMIT = -1


@dataclass(frozen=True)
class StreamSpec:
    """What the settings of a stream must be.

    Attributes:
        name: Its name.
        subjects: The subjects whose messages it stores.
        replicas: Nodes of the cluster that keep each message, at least.
        bytes_max: Bytes beyond which it discards or refuses messages; -1 for no limit.
        kept_s: Seconds after which it forgets messages; 0 for never.
        newest_only: Whether it keeps only the newest message of each subject.
        refuses: Whether it refuses messages beyond ``bytes_max``; otherwise it discards the oldest.
        append_only: Whether the broker must refuse to delete its messages.
        purged: Whether the operator purges messages of it all the same.
        direct: Whether clients of the object store may read it from any node.
    """

    name: str
    subjects: tuple[str, ...]
    replicas: int = 1
    bytes_max: int = _NO_LIMIT
    kept_s: int = 0
    newest_only: bool = False
    refuses: bool = False
    append_only: bool = False
    purged: bool = False
    direct: bool = False

    @property
    def config(self) -> Mapping[str, Any]:
        """The settings as the broker's API names them; times are in nanoseconds."""
        return {
            "name": self.name,
            "subjects": list(self.subjects),
            "retention": "limits",
            "storage": "file",
            "num_replicas": self.replicas,
            "max_consumers": _NO_LIMIT,
            "max_msgs": _NO_LIMIT,
            "max_msgs_per_subject": 1 if self.newest_only else _NO_LIMIT,
            "max_bytes": self.bytes_max,
            "max_msg_size": _NO_LIMIT,
            "max_age": self.kept_s * 1_000_000_000,
            "discard": "new" if self.refuses else "old",
            "deny_delete": self.append_only,
            "deny_purge": self.append_only and not self.purged,
            "allow_direct": self.direct,
        }


def events(replicas: int = 1) -> StreamSpec:
    """Return the stream of the event log, from which archived runs are purged.

    Streams of earlier releases allow no purge, which no update changes.
    """
    return StreamSpec(STREAM, (EVERYTHING,), replicas, append_only=True, purged=True)


def artifacts(replicas: int = 1) -> StreamSpec:
    """Return the stream below the object store of artifacts.

    Unlike those that clients of the object store make, it takes no rollups: with one, whoever may store an artifact
    could delete all others.
    """
    subjects = tuple(f"$O.{ARTIFACT_BUCKET}.{kind}.>" for kind in "CM")
    return StreamSpec(ARTIFACTS, subjects, replicas, refuses=True, direct=True)


def leases(replicas: int = 1) -> StreamSpec:
    """Return the stream of who holds which request."""
    return StreamSpec(LEASES, (f"{LEASES_PREFIX}.>",), replicas, kept_s=LEASES_KEPT_S, newest_only=True)


def dead_letters(replicas: int = 1, bytes_max: int = DEAD_LETTERS_BYTES_MAX) -> StreamSpec:
    """Return the stream of results that could not be recorded."""
    return StreamSpec(DEAD_LETTERS, (f"{DEAD_LETTERS_PREFIX}.>",), replicas, bytes_max)


def uploads(bytes_max: int, replicas: int = 1) -> StreamSpec:
    """Return the stream of what clients upload, ``bytes_max`` in all."""
    return StreamSpec(UPLOADS, (f"{UPLOADS_PREFIX}.>",), replicas, bytes_max, refuses=True)


def queue(replicas: int = 1) -> StreamSpec:
    """Return the stream of requests to annotators on the broker, and of their results."""
    return StreamSpec(QUEUE, (f"{QUEUE_PREFIX}.>",), replicas, kept_s=_QUEUE_KEPT_S, append_only=True)


def stream_of(subject: str) -> str:
    """Return the name of the stream that stores messages under ``subject``; empty if none does."""
    return next((name for prefix, name in _BY_PREFIX.items() if subject.startswith(f"{prefix}.")), "")
