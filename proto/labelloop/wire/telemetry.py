"""Logs: one line an event, as text for people or as JSON for machines.

A line says which run and round it is about where it is written while that is carried on, and which rpc where it is
written while one is answered.
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from typing import Any, Literal

import structlog

CALL: ContextVar[tuple[str, Any] | None] = ContextVar("CALL", default=None)
"""The method that is being answered and its request, or the newest message of its stream. To set it costs 50 ns; what
is to be said of it is looked up only where a line is written."""


def set_up_logs(service: str, log_format: Literal["text", "json"], level: str) -> None:
    """Log to standard error, what libraries have to say too; every line names ``service``."""
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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.getLogger().addHandler(_ToStructlog())


def run_of_call() -> str:
    """The run that the call is about; empty where it is about none, or where there is no call."""
    call = CALL.get()
    return str(getattr(call[1], "run_id", "")) if call else ""


def _add_call(logger: object, name: str, line: structlog.types.EventDict) -> structlog.types.EventDict:
    if call := CALL.get():
        line.setdefault("method", call[0])
        if run_id := run_of_call():
            line.setdefault("run", run_id)
    return line


class _ToStructlog(logging.Handler):
    """Lines of libraries that log as Python does by itself, as gRPC of a handler's fault."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info or None
        )
