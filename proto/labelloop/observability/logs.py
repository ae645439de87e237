"""Set up structured logs: one line per event, as text for people or as JSON for machines.

A line names the run and round if it is written while a run is advanced, and the rpc if it is written while one is
answered.
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from typing import Any, Literal

import structlog

from labelloop.observability import metrics

CALL: ContextVar[tuple[str, Any] | None] = ContextVar("CALL", default=None)
"""The method of the current call, and its request or the newest message of its stream. Setting it costs 50 ns; details
are looked up only when a line is written."""


def set_up_logs(service: str, log_format: Literal["text", "json"], level: str) -> None:
    """Log to standard error, including the logs of libraries; every line names ``service``."""
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )

    def add_service(logger: object, name: str, line: structlog.types.EventDict) -> structlog.types.EventDict:
        return {"service": service, **line}

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_call,
            add_service,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=_StandardError,
    )
    root = logging.getLogger()
    if not any(isinstance(handler, _ToStructlog) for handler in root.handlers):
        root.addHandler(_ToStructlog())


def run_of_call() -> str:
    """Return the run that the current call is about; empty if it is about none, or if there is no call."""
    call = CALL.get()
    return str(getattr(call[1], "run_id", "") or getattr(call[1], "model_name", "")) if call else ""


def _add_call(logger: object, name: str, line: structlog.types.EventDict) -> structlog.types.EventDict:
    if call := CALL.get():
        line.setdefault("method", call[0])
        if run_id := run_of_call():
            line.setdefault("run", run_id)
    return line


class _StandardError:
    """Write lines to what standard error is at that moment.

    A line that cannot be written is counted and lost, never an error: it would otherwise end what wrote it, such as the
    task that reads from the broker.
    """

    def __init__(self, *_: object) -> None:
        """structlog passes the arguments of ``get_logger``."""

    def msg(self, line: str) -> None:
        try:
            print(line, file=sys.stderr, flush=True)
        except (OSError, ValueError):  # ValueError where it is closed
            metrics.LOG_LINES_LOST.inc()

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


class _ToStructlog(logging.Handler):
    """Forwards the logs of libraries that use Python's logging, such as gRPC about an exception in a handler."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info or None
        )
