"""The file of when each part last passed, written by a run and committed by hand."""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from labelloop.rpc.server import write_whole
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

FILE = Path(__file__).with_suffix(".toml")
_HEADING = (
    "# When each part of `make nightly` last passed, where, and how long it took; written by it, committed by hand.\n"
)


class Passed(BaseModel):
    """``commit`` is the tested one, with a ``+`` suffix if the working tree differed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    date: datetime.date
    commit: str = Field(pattern=r"^[0-9a-f]{7,40}\+?$")
    seconds: int = Field(ge=0)


def read(file: Path) -> dict[str, Passed]:
    """Read the file, by part; empty if there is none. Raise ValueError if it is invalid."""
    if not file.exists():
        return {}
    return TypeAdapter(dict[str, Passed]).validate_python(tomllib.loads(file.read_text()))


def write(file: Path, passed: Mapping[str, Passed]) -> None:
    """Write the file atomically, sorted by part."""
    tables = [
        f'[{name}]\ndate = {each.date}\ncommit = "{each.commit}"\nseconds = {each.seconds}\n'
        for name, each in sorted(passed.items())
    ]
    write_whole(file, "\n".join([_HEADING, *tables]))


def table(names: Sequence[str], passed: Mapping[str, Passed], today: datetime.date) -> str:
    """Return a line for each part: when it last passed, or that it never did."""
    width = max(map(len, names))
    return "\n".join(f"  {name:{width}}  {_when(passed.get(name), today)}" for name in names)


def _when(last: Passed | None, today: datetime.date) -> str:
    if last is None:
        return "has not passed yet"
    days = (today - last.date).days
    return f"passed {last.date} ({days} days ago) at {last.commit[:12]}, in {last.seconds:,} s"
