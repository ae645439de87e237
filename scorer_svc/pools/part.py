"""Represent consecutive samples of a pool, the unit that rankings read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class Part:
    """Consecutive samples ``[n, *shape]`` of a pool, starting at id ``first``."""

    first: int
    samples: NDArray[Any]

    @property
    def end(self) -> int:
        """The first id after it."""
        return self.first + len(self.samples)
