"""The tools that the faults are tried on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

TOOLS: Sequence[Any] = ()
