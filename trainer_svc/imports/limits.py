"""Define how much an import may send and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

EVENTS_MAX = 500_000  # 100,000 samples with four annotators each; a million events take a gigabyte of memory
_SILENCE_S = 60.0


@dataclass(frozen=True)
class ImportLimits:
    """Limits of each import.

    Attributes:
        events_max: How many events it may have.
        bytes_max: How many bytes its events and artifacts may have in all, which are kept on the disk meanwhile.
        limit_s: How long it may take.
        silence_s: How long the client may send nothing.
        folder: Where the bytes are kept; None for the system's folder of temporary files.
    """

    events_max: int = EVENTS_MAX
    bytes_max: int = 4 * 10**9
    limit_s: float = 3_600.0
    silence_s: float = _SILENCE_S
    folder: Path | None = None
