"""Every error of labelloop, and how it crosses gRPC.

::

    LabelloopError
    ├── InvalidInput     INVALID_ARGUMENT     the caller can mend it; names the field
    ├── NotFound         NOT_FOUND            no such run, model, pool or artifact
    ├── WrongState       FAILED_PRECONDITION  the thing is there, but not in a state for this
    ├── Unready          UNAVAILABLE          try again, after retry_after_s
    ├── NotAllowed       PERMISSION_DENIED    whoever runs the broker has to allow it
    ├── Corrupt          DATA_LOSS            bytes are not what their digest says
    └── LimitExceeded    RESOURCE_EXHAUSTED   more than this server is set to take

A status carries exactly one ErrorInfo (reason, domain, and every value of the message as metadata),
a BadRequest where a field is at fault, and a RetryInfo where trying again may help.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN = "labelloop"
_MESSAGE_BYTES_MAX, _VALUE_BYTES_MAX = 1_000, 200  # a status travels in headers, of which gRPC takes 8 KiB in all


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
    """``text`` cut to what fits; what is not UTF-8, as names of files may be, turns into "?"."""
    data = text.encode(errors="replace")
    return data.decode() if len(data) <= bytes_max else data[:bytes_max].decode(errors="ignore") + "..."


def to_status(error: LabelloopError) -> status_pb2.Status:
    """The status that a server answers with for ``error``; what is too long for it is cut."""
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
    """The error that a server of ours raised, or None where the status is not one of ours."""
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
