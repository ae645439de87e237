"""Build the errors of imports."""

from __future__ import annotations

from labelloop.errors import InvalidInput, WrongState


def bad(message: str, field: str = "part") -> InvalidInput:
    return InvalidInput("BAD_LEDGER", f"this is no sound export of a run: {message}; export it again", field=field)


def taken(run_id: str) -> WrongState:
    message = (
        f"there is another run {run_id!r} here already: import this one under another id, with `labelloop import "
        "--run-id`, or on another broker"
    )
    return WrongState("RUN_EXISTS", message, field="run_id", run_id=run_id)


def other_import(run_id: str) -> WrongState:
    message = (
        f"events of another import stand under the id {run_id!r}, which was cut short: complete that one, or import "
        "this one under another id, with `labelloop import --run-id`"
    )
    return WrongState("RUN_EXISTS", message, field="run_id", run_id=run_id)


def given_up(run_id: str) -> WrongState:
    message = (
        f"an import of run {run_id!r} was given up, and its id is not used again: import this one under another id, "
        "with `labelloop import --run-id`"
    )
    return WrongState("IMPORT_CLEARED", message, field="run_id", run_id=run_id)
