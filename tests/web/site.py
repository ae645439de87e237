"""The interface of sites that the tests of the page use: a fake one, and one on real services."""

from __future__ import annotations

from typing import Protocol


class Site(Protocol):
    """Serves one run for annotators at ``url``: classes "0" to "9", images, rounds of ``batch_size`` that follow each
    other by themselves, ``budget`` labels in all. Nothing is labelled yet."""

    url: str
    token: str
    run_id: str
    batch_size: int
    budget: int

    async def labels(self) -> dict[int, int]:
        """Return the current labels, by sample."""
        ...

    async def skipped(self) -> set[int]:
        """Return the samples that were skipped or rejected."""
        ...
