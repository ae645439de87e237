"""Define labelloop's errors and their mapping to gRPC statuses.

::

    LabelloopError
    ├── InvalidInput     INVALID_ARGUMENT     the caller can fix it; names the field
    ├── NotFound         NOT_FOUND            no such run, model, pool or artifact
    ├── WrongState       FAILED_PRECONDITION  it exists, but its state does not allow this
    ├── Unready          UNAVAILABLE          try again, after retry_after_s
    ├── NotAllowed       PERMISSION_DENIED    the broker's operator has to allow it
    ├── Corrupt          DATA_LOSS            bytes are not what their digest says
    └── LimitExceeded    RESOURCE_EXHAUSTED   more than this server is set to accept

A status carries exactly one ErrorInfo (reason, domain, and every value of the message as metadata),
a BadRequest if a field is at fault, and a RetryInfo if a retry may help.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN = "labelloop"
_MESSAGE_BYTES_MAX, _VALUE_BYTES_MAX = 1_000, 200  # a status is sent in headers, which gRPC limits to 8 KiB in all


class LabelloopError(Exception):
    """An error to show to a person: ``reason`` is UPPER_SNAKE and stable, ``message`` says what to do."""

    code: ClassVar[int] = code_pb2.INTERNAL

    def __init__(
        self, reason: str, message: str, *, field: str = "", retry_after_s: float = 0.0, **values: object
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s
        self.values: Mapping[str, str] = {key: str(value) for key, value in values.items()}


class InvalidInput(LabelloopError):
    code = code_pb2.INVALID_ARGUMENT


class NotFound(LabelloopError):
    code = code_pb2.NOT_FOUND


class WrongState(LabelloopError):
    code = code_pb2.FAILED_PRECONDITION


class Unready(LabelloopError):
    code = code_pb2.UNAVAILABLE


class NotAllowed(LabelloopError):
    code = code_pb2.PERMISSION_DENIED


class Corrupt(LabelloopError):
    code = code_pb2.DATA_LOSS


class LimitExceeded(LabelloopError):
    code = code_pb2.RESOURCE_EXHAUSTED


_BY_CODE: dict[int, type[LabelloopError]] = {
    kind.code: kind for kind in (InvalidInput, NotFound, WrongState, Unready, NotAllowed, Corrupt, LimitExceeded)
}


def _packed(message: object) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)  # type: ignore[arg-type]
    return packed


def _fitting(text: str, bytes_max: int) -> str:
    """Truncate ``text`` to ``bytes_max``; what is not UTF-8, as in some file names, becomes "?"."""
    data = text.encode(errors="replace")
    return data.decode() if len(data) <= bytes_max else data[:bytes_max].decode(errors="ignore") + "..."


def to_status(error: LabelloopError) -> status_pb2.Status:
    """Convert ``error`` to the status that a server returns; texts that are too long are truncated."""
    message = _fitting(error.message, _MESSAGE_BYTES_MAX)
    values = {key: _fitting(value, _VALUE_BYTES_MAX) for key, value in error.values.items()}
    details = [_packed(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=values))]
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=message, reason=error.reason
        )
        details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
    if error.retry_after_s:
        delay = duration_pb2.Duration(nanos=int(error.retry_after_s * 1e9) % 10**9, seconds=int(error.retry_after_s))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(code=error.code, message=message, details=details)


def from_rpc(error: grpc.RpcError) -> LabelloopError | None:
    """Restore the error that a labelloop server raised; None if the status is not from labelloop."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    if status is None or status.code not in _BY_CODE:
        return None
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in status.details:
        for message in (info, bad, retry):
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
    if info.domain != DOMAIN:
        return None
    return _BY_CODE[status.code](
        info.reason,
        status.message,
        field=bad.field_violations[0].field if bad.field_violations else "",
        retry_after_s=retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9,
        **dict(info.metadata),
    )


class LogRolledBack(BaseException):
    """The log lost events that were already read: the service must end and restart from the current log.

    A BaseException, so that no handler of ordinary errors catches it.
    """


def status_of(error: BaseException, context: Any) -> str:
    """Return the name of the status that a handler's ``error`` results in."""
    if isinstance(error, LabelloopError):
        return str(code_pb2.Code.Name(error.code))
    if isinstance(error, grpc.aio.AbortError):
        return str(context.code().name)
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return "CANCELLED"
    return "UNKNOWN"  # what gRPC makes of any other exception


def port_in_use(host: str, port: int, setting: str = "LABELLOOP_PORT") -> WrongState:
    """Return the error for a ``port``, set by ``setting``, that cannot be listened on."""
    message = f"cannot listen on {host}:{port}: is something else there? Set {setting} to a free port"
    return WrongState("PORT_IN_USE", message, host=host, port=port)
