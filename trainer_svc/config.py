"""Define the trainer's settings, read from LABELLOOP_<NAME> environment variables."""

from __future__ import annotations

from typing import Annotated

from labelloop.runtime.cores import usable_cores
from labelloop.settings import ServiceSettings
from pydantic import AfterValidator, Field

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
