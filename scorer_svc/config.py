"""The scorer's settings: LABELLOOP_<NAME> in the environment."""

from __future__ import annotations

from labelloop.wire.settings import ServiceSettings
from pydantic import Field


class ScorerSettings(ServiceSettings):
    port: int = Field(50052, ge=0, le=65535, description="the port to listen on; 0 for any free one")
    score_threads: int = Field(1, ge=1, description="how many rankings may run at the same time, on a core each")
