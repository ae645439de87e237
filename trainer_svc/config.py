"""The trainer's settings: LABELLOOP_<NAME> in the environment."""

from __future__ import annotations

from labelloop.wire.settings import ServiceSettings
from pydantic import Field


class TrainerSettings(ServiceSettings):
    port: int = Field(50051, ge=0, le=65535, description="the port to listen on; 0 for any free one")
    scorer: str = Field(
        "127.0.0.1:50052", description="the scorer's address, or any gRPC target that names its replicas"
    )
    oracle: str = Field("127.0.0.1:50053", description="the oracle's address")
    fit_threads: int = Field(1, ge=1, description="how many runs may fit at the same time, on a core each")
