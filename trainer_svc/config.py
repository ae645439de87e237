"""Define the trainer's settings, read from LABELLOOP_<NAME> environment variables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from labelloop.runtime.cores import usable_cores
from labelloop.settings import ServiceSettings
from platformdirs import user_cache_path
from pydantic import AfterValidator, Field

from trainer_svc.imports.limits import EVENTS_MAX, ImportLimits
from trainer_svc.scorers.addresses import checked_target


class TrainerSettings(ServiceSettings):
    port: int = Field(50051, ge=0, le=65535, description="the port to listen on; 0 for any free one")
    scorer: Annotated[str, AfterValidator(checked_target)] = Field(
        "127.0.0.1:50052", description="HOST:PORT of the scorer; several, or a name with several addresses, share pools"
    )
    oracle: str = Field("127.0.0.1:50053", description="the oracle's address")
    fit_threads: int = Field(
        default_factory=usable_cores,
        ge=1,
        description="how many runs may fit at the same time, on a core each; as many as there are cores",
    )
    import_events: int = Field(EVENTS_MAX, ge=1, description="how many events an imported run may have")
    import_gb: float = Field(
        4.0, gt=0, le=100_000, description="how much an import may have in all, on the disk meanwhile"
    )
    import_s: float = Field(3_600.0, gt=0, le=604_800, description="how long an import may take")
    import_dir: Path | None = Field(None, description="where an import is kept meanwhile; none: with temporary files")

    cache_dir: Path = Field(user_cache_path("labelloop"), description="where what was read of the log is kept")

    @property
    def import_limits(self) -> ImportLimits:
        bytes_max = int(self.import_gb * 1e9)
        return ImportLimits(self.import_events, bytes_max, self.import_s, folder=self.import_dir)
