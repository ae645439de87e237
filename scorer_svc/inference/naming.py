"""Find the model that a name and a version of the Open Inference Protocol stand for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from labelloop.errors import NotFound
from labelloop.events.v1.events_pb2 import PoolPublished

from scorer_svc.models.latest import LatestModel
from scorer_svc.models.warmup import ModelWarmup

_DIGEST = re.compile("[0-9a-f]{64}")
_ROUND = re.compile("0|[1-9][0-9]{0,9}")


class Named(NamedTuple):
    """A model.

    Attributes:
        name: id of its run.
        version: the round that it was trained in; its digest if that was in no round of this run.
        digest: its SHA-256.
    """

    name: str
    version: str
    digest: str


class ModelNames:
    """Finds models among the runs that ``newest`` follows."""

    def __init__(self, newest: ModelWarmup) -> None:
        self._newest = newest

    def find(self, name: str, version: str) -> Named:
        """Return the model of a run by its round or digest; the run's newest if ``version`` is empty.

        Raises:
            NotFound: There is no such run, or no such model of it.
            WrongState: The run was deleted.
        """
        if not version and (found := self._at_once(name)):
            return found
        served = self._newest.digest(name)
        if version == served:
            return Named(name, version_of(self._models(name), served), served)
        models = self._models(name)
        if not version:
            return Named(name, version_of(models, served), served)
        if _ROUND.fullmatch(version) and int(version) in models:
            return Named(name, version, models[int(version)])
        if _DIGEST.fullmatch(version) and version in {*models.values(), self._newest_of(name)}:
            return Named(name, version_of(models, version), version)
        message = f"run {name!r} has no model {version[:100]!r}: name one of its rounds, a model's SHA-256, or none"
        raise NotFound("UNKNOWN_VERSION", message, run_id=name, version=version[:100])

    def _at_once(self, name: str) -> Named | None:
        """Return the model that answers for a run whose state is kept; None for others, and if there is none yet."""
        projections = self._newest.projections
        if name in projections.archived or name not in projections.runs:
            return None
        [found] = projections.runs.each(_served, lambda summary: None, [name])
        return found

    def versions(self, name: str) -> list[str]:
        """Return the rounds of a run that have models, ascending; the digest of its one model if it has no rounds.

        Raises:
            NotFound: There is no such run, or no model of it yet.
            WrongState: The run was deleted.
        """
        served = self._newest.digest(name)
        return [str(each) for each in self._models(name)] or [served]

    def sample_shape(self, name: str) -> Sequence[int]:
        """Return the shape of a sample of a run's pool; empty if that is not known."""
        pool = self._pool(name)
        return tuple(pool.shape) if pool else ()

    def _pool(self, name: str) -> PoolPublished | None:
        archived = self._newest.projections.archived.readable(name)
        return archived.pool if archived else self._newest.projections.get(name).pool

    def _models(self, name: str) -> dict[int, str]:
        """Return the models of a run's rounds; none for an archived run, of which only the newest is known."""
        projections = self._newest.projections
        return {} if name in projections.archived else projections.get(name).models

    def _newest_of(self, name: str) -> str:
        """Return the newest model of a run, in memory or not; inherited ones too."""
        projections = self._newest.projections
        return "" if name in projections.archived else projections.get(name).model_sha256


def _served(run: LatestModel) -> Named | None:
    if not run.served:
        return None
    is_newest = run.served == run.model_sha256 and run.round > 0
    return Named(run.run_id, str(run.round) if is_newest else version_of(run.models, run.served), run.served)


def version_of(models: dict[int, str], digest: str) -> str:
    """Return the last round that gave the model ``digest``; the digest itself if none did."""
    return next((str(number) for number, model in reversed(models.items()) if model == digest), digest)
