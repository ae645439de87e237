"""Decide how to handle each error that JetStream may answer our requests with.

The codes are those of nats-server 2.9 to 2.15. Listed are those that our requests can be answered with: publishing with
an expected sequence, reading a message, reading, making, changing and purging a stream, making a consumer, and the
object store, which consists of these. Codes about mirrors, sources, templates, counters, batches and schedules do not
occur, because we use none of them. A code that is not listed is handled by its class, as :func:`handling_of` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from labelloop.errors import WrongState


class Handling(Enum):
    """What to do about an error of the broker."""

    RETRY_SOON = "after milliseconds: it is decided then who was first"
    READ_BACK = "another was first: read what it wrote"
    ABSENT = "there is no such message, stream or consumer"
    WAIT = "the broker is away, slow or has no leader: try again for as long as that lasts"
    REFUSED = "the broker's settings or limits forbid it: an operator must change them"
    FAULT = "a request that should not have been made: a bug"


_SOON, _BACK, _ABSENT = Handling.RETRY_SOON, Handling.READ_BACK, Handling.ABSENT
_WAIT, _REFUSED, _FAULT = Handling.WAIT, Handling.REFUSED, Handling.FAULT

INSUFFICIENT_RESOURCES, STORAGE_EXCEEDED, STORE_FAILED = 10023, 10047, 10077

BY_CODE: Mapping[int, Handling] = MappingProxyType(
    {
        # Publishing
        10071: _BACK,  # wrong last sequence: another message is the newest of the subject
        10163: _SOON,  # expected last sequence not known yet: a new leader still applies what was written before
        10164: _SOON,  # another write of the subject is in flight, and may fail yet
        10158: _SOON,  # the same message id is in flight
        10167: _WAIT,  # too many requests are queued for the stream
        STORE_FAILED: _WAIT,  # the stream or the disk is full; uploads, whose stream has a limit, refuse instead
        10054: _REFUSED,  # larger than the stream's largest message
        10097: _FAULT,  # headers above 64 KB
        10109: _REFUSED,  # the stream is sealed
        10193: _FAULT,  # an expected sequence without a number
        # Reading messages, streams and consumers
        10014: _ABSENT,  # no such consumer
        10037: _ABSENT,  # no such message
        10059: _ABSENT,  # no such stream
        10117: _REFUSED,  # more subjects than the broker lists
        # Making, changing and purging streams
        10058: _BACK,  # the name is taken
        10065: _BACK,  # the subjects are taken; nats-server 2.9 says so of the same stream too
        10005: _WAIT,  # too few nodes for the replicas: a cluster that starts is not complete
        10124: _WAIT,  # the stream is being moved
        10026: _REFUSED,  # too many consumers
        10027: _REFUSED,  # too many streams
        10048: _REFUSED,  # the assignment to nodes failed
        10049: _REFUSED,  # not made
        10052: _REFUSED,  # invalid settings, such as those of another version
        10053: _REFUSED,  # above the account's limits
        10061: _REFUSED,  # the number of replicas cannot be changed
        10069: _REFUSED,  # not changed
        10074: _REFUSED,  # replicas on a single node
        10110: _REFUSED,  # not purged
        10113: _REFUSED,  # the account demands a limit of bytes
        10122: _REFUSED,  # that limit is above the account's
        10123: _FAULT,  # moved and scaled in one request
        # Making consumers
        10012: _WAIT,  # not made, as on a node that stops
        10013: _REFUSED,  # the name is taken
        10148: _REFUSED,  # it exists with other settings
        10153: _REFUSED,  # its inactive threshold is above the broker's limit
        10119: _WAIT,  # the consumer's nodes are away
        10195: _WAIT,  # as 10119, with a reason
        # Any request
        10002: _REFUSED,  # the account's limits are reached
        10028: _REFUSED,  # not enough memory
        STORAGE_EXCEEDED: _REFUSED,  # not enough storage
        10003: _FAULT,  # bad request
        10025: _FAULT,  # not JSON
        10010: _REFUSED,  # only in a cluster
        10036: _REFUSED,  # not in a cluster
        10004: _WAIT,  # incomplete: some nodes did not answer
        10006: _WAIT,  # not a member of the cluster yet
        10007: _WAIT,  # the stream is not on this node
        10008: _WAIT,  # no leader at the moment
        10009: _WAIT,  # not the leader any more
        INSUFFICIENT_RESOURCES: _WAIT,  # insufficient resources, as on a full disk
        10035: _WAIT,  # the account is not known yet
        10039: _WAIT,  # JetStream is not enabled for the account, yet
        10041: _WAIT,  # consensus failed
        10076: _WAIT,  # JetStream is off, as after a full disk
        10096: _WAIT,  # the stream is just being stopped
        10118: _WAIT,  # the stream's nodes are away
        10194: _WAIT,  # as 10118, with a reason
    }
)
_BY_CLASS = MappingProxyType({404: _ABSENT, 429: _WAIT, 503: _WAIT})


_NO_ROOM = (
    "its disk or its store is full: make room (NATS_MAX_FILE_STORE, or a larger disk); nats-server 2.15 stores nothing "
    "after that until it is restarted"
)
_PROBLEMS: Mapping[int, str] = MappingProxyType(
    {
        STORE_FAILED: _NO_ROOM,
        INSUFFICIENT_RESOURCES: _NO_ROOM,
        STORAGE_EXCEEDED: _NO_ROOM,
        10076: "JetStream has switched itself off, as it does on a full disk: make room and restart the broker",
        10039: "JetStream is not enabled: it has switched itself off, or the broker is just starting",
        10008: "no node leads the stream: too few nodes are up or reach each other",
        10118: "the nodes of the stream are away",
    }
)


class StoresNothing(NatsError):
    """A write was not answered although the broker answers other requests."""

    def __init__(self) -> None:
        super().__init__(
            "it answers but stores nothing: too few of its nodes reach each other, or its disk is or was full. Make "
            "room, then restart the broker: nats-server 2.15 stores nothing before that"
        )


def problem_of(error: BaseException) -> str:
    """Say why a request fails, and what to do about it where that is known."""
    if isinstance(error, APIError):
        known = _PROBLEMS.get(error.err_code or 0)
        said = f"{error.description or 'no answer'} (code {error.err_code})" if error.err_code else "JetStream is off"
        return f"{known} [{said}]" if known else said
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return str(error) or type(error).__name__


class RefusedByBroker(WrongState):
    """The broker refuses a request because of its settings or limits; ``err_code`` is its code for that."""

    def __init__(self, error: APIError) -> None:
        message = (
            f"the broker refuses a request: {error.description or 'it gives no reason'} (code {error.err_code}); "
            "an operator must change its settings or limits"
        )
        super().__init__("REFUSED_BY_BROKER", message, err_code=error.err_code)
        self.err_code = error.err_code


def handling_of(error: BaseException) -> Handling:
    """Return how to handle an error of a request to the broker.

    Answers with a code that is not listed count as temporary if their class is 503 or 429, as absence if it is 404, and
    as a bug otherwise, so that they are reported. So does whatever is not the broker's or the network's error.
    """
    if isinstance(error, APIError):
        return _of_answer(error)
    if isinstance(error, MaxPayloadError):
        return Handling.REFUSED
    return Handling.WAIT if isinstance(error, (NatsError, OSError)) else Handling.FAULT


def _of_answer(error: APIError) -> Handling:
    if handling := BY_CODE.get(error.err_code or 0):
        return handling
    if isinstance(error, ServiceUnavailableError):  # nats-py gives no class if nothing answers requests of JetStream
        return Handling.WAIT
    if isinstance(error, NotFoundError):
        return Handling.ABSENT
    return _BY_CLASS.get(error.code or 0, Handling.FAULT)
