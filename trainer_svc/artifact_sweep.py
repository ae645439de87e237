"""Remove parts of artifacts that were never stored whole, except those that a run names."""

from __future__ import annotations

from datetime import timedelta

from labelloop.artifacts.leftovers import Leftover, Leftovers
from labelloop.errors import InvalidInput
from labelloop.eventlog.projections import RunProjections
from labelloop.trainer.v1.trainer_pb2 import LeftoverParts, SweepArtifactsRequest

from trainer_svc.domain.run_state import RunState
from trainer_svc.run_archive import RunArchive

_OLDER_THAN_MIN_S = 3_600  # an upload of 1 GiB over a slow line ends within that


class ArtifactSweep:
    """Finds and removes parts on the broker."""

    def __init__(self, leftovers: Leftovers, projections: RunProjections[RunState], archive: RunArchive) -> None:
        self._leftovers, self._projections, self._archive = leftovers, projections, archive

    async def sweep(self, request: SweepArtifactsRequest) -> list[LeftoverParts]:
        """Return the parts that were found, and what became of them.

        Raises:
            InvalidInput: If parts younger than an hour are asked for.
            NotAllowed: If the trainer's key does not allow their removal.
            NotFound: If artifacts that runs name are missing, so that it cannot be told what else they name.
        """
        older_than_s = request.older_than_s or _OLDER_THAN_MIN_S
        if older_than_s < _OLDER_THAN_MIN_S:
            message = f"parts younger than {_OLDER_THAN_MIN_S} s may belong to an upload under way: ask for older ones"
            raise InvalidInput("TOO_YOUNG", message, field="older_than_s", least=_OLDER_THAN_MIN_S)
        found = await self._leftovers.find(timedelta(seconds=older_than_s))
        named = await self._named() if any(each.digest for each in found) else set()
        return [await self._swept(each, named, remove=request.remove) for each in found]

    async def _named(self) -> set[str]:
        """Return the digests of all artifacts that any run names."""
        named: set[str] = set()
        archived = {key: each for key, each in self._projections.archived.runs.items() if not each.deleted}
        for run_id in [*self._projections.runs, *archived]:
            named.update(await self._archive.named(run_id))
        named.update(each.facts.archive_sha256 for each in archived.values())
        return named

    async def _swept(self, leftover: Leftover, named: set[str], *, remove: bool) -> LeftoverParts:
        told = LeftoverParts(name=leftover.name, parts=leftover.parts)
        told.newest_at.FromDatetime(leftover.newest_at)
        if leftover.digest in named:
            told.kept = "a run names the artifact: restore it from a backup"
        elif remove:
            told.removed = await self._leftovers.remove(leftover)
            told.kept = "" if told.removed else "something was added meanwhile"
        return told
