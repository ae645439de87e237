"""Define what samples are to their readers: an array in memory, or one in files of which a part is read at a time."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class SampleArray(Protocol):
    """Samples ``[n, *shape]``, or texts ``[n]``. Read large ones part by part: indexing reads into memory."""

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def nbytes(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> NDArray[Any]: ...


class SampleValues(SampleArray, Protocol):
    """Samples that are numbers, whose extremes are known."""

    def min(self) -> Any: ...

    def max(self) -> Any: ...
