"""What the tests of the page need of a site: a fake one, or one before real services."""

from __future__ import annotations

from typing import Protocol


class Site(Protocol):
    """One run that people label is served at ``url``: classes "0" to "9", images, rounds of ``batch_size`` that follow
    each other by themselves, ``budget`` labels in all. Nothing is labelled yet."""

    url: str
    token: str
    run_id: str
    batch_size: int
    budget: int

    async def labels(self) -> dict[int, int]:
        """The labels that stand, by sample."""
        ...

    async def skipped(self) -> set[int]:
        """The samples that were skipped or rejected."""
        ...
