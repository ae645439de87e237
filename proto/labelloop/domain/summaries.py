"""Describe how a service serializes what it shows of runs that have ended. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Summaries(NamedTuple):
    """How summaries of ended runs become bytes and are read again; ``load`` raises ValueError or DecodeError."""

    dump: Callable[[Any], bytes]
    load: Callable[[bytes], Any]
