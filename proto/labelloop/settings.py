"""Read the settings that all services share from environment variables ``LABELLOOP_<NAME>``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="LABELLOOP_", frozen=True)

    nats_url: str = Field(
        "nats://127.0.0.1:4222", description="the broker; the nodes of a cluster are separated by commas"
    )
    replicas: int = Field(1, ge=1, le=5, description="nodes of the broker's cluster that keep each event and artifact")
    artifacts_url: str = Field("jetstream:", description="where artifacts lie: jetstream: or any fsspec URL")
    host: str = Field("127.0.0.1", description="the address to listen on")
    port: int = Field(0, ge=0, le=65535, description="the port to listen on; 0 for any free one")
    ready_file: Path | None = Field(None, description="written once the service answers; holds its port")
    health_port: int | None = Field(None, ge=0, le=65535, description="gRPC health in plain text, for probes")
    metrics_port: int | None = Field(None, ge=0, le=65535, description="Prometheus' metrics under /metrics")
    tls_dir: Path | None = Field(
        None, description="a folder of ca.crt, tls.crt and tls.key: every connection is then TLS, both ends with one"
    )
    clients: str = Field(
        "client", description="common names of certificates that may call everything over TLS, separated by commas"
    )
    nats_nkey_file: Path | None = Field(None, description="the seed by which the broker knows the service")
    drain_s: float = Field(5.0, ge=0, description="how long calls in flight may take to end after SIGTERM")
    connection_age_s: float = Field(
        60.0,
        ge=0,
        description="seconds after which a connection ends, plus or minus a tenth, so that clients find new replicas; "
        "calls in flight are completed; 0: never",
    )
    reflection: bool = Field(
        False,
        description="whether clients such as grpcurl may ask for services and messages; needs the extra reflection",
    )
    log_format: Literal["text", "json"] = Field("text", description="how to log")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="what to log")

    @property
    def client_names(self) -> frozenset[str]:
        """The names in ``clients``."""
        return frozenset(name.strip() for name in self.clients.split(",") if name.strip())


S = TypeVar("S", bound=BaseSettings)


def read_settings(kind: type[S]) -> S:
    """Read settings from the environment; if any is wrong, print one line for each and exit with 2."""
    try:
        return kind()
    except ValidationError as error:
        for line in setting_faults(error, kind):
            print(line, file=sys.stderr)
        raise SystemExit(2) from None


def setting_faults(error: ValidationError, kind: type[BaseSettings]) -> list[str]:
    """Return a line for each wrong setting, which begins with the variable and does not show secrets."""
    lines = []
    for fault in error.errors():
        said = plain_fault(fault["msg"])
        if not fault["loc"]:  # about several settings, which the validator's words name
            lines.append(said)
            continue
        place = str(fault["loc"][0])
        field = kind.model_fields.get(place)  # none for a setting with an alias, which is reported by the alias
        name = f"{kind.model_config['env_prefix']}{place}".upper() if field else place
        secret = field is not None and _may_be_secret(repr(field.annotation))
        lines.append(f"{name}: {said}" + ("" if secret else f", not {fault['input']!r}"))
    return lines


def plain_fault(message: str) -> str:
    """Return pydantic's message without what it puts before a validator's own words."""
    return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")


def _may_be_secret(annotation: str) -> bool:
    """Return whether values of a type hold a secret, as URLs with a password do."""
    return "Secret" in annotation or "Dsn" in annotation or "Url" in annotation
