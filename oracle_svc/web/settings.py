"""Settings of the page where people label: LABELLOOP_HTTP_<NAME> in the environment."""

from __future__ import annotations

from labelloop.wire.errors import InvalidInput
from labelloop.wire.settings import read_settings
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class WebSettings(BaseSettings):
    """``host`` and ``drain_s`` are the service's own."""

    model_config = SettingsConfigDict(env_prefix="LABELLOOP_", frozen=True)

    host: str = Field("127.0.0.1", description="the address to listen on where http_host names no other")
    drain_s: float = Field(5.0, ge=0, description="how long requests in flight may take to end after SIGTERM")
    http_port: int | None = Field(
        None, ge=0, le=65535, description="the page's port; 0 for any free one; none: no page"
    )
    http_host: str = Field("", description="the address that the page listens on; empty: as host")
    http_token: SecretStr | None = Field(
        None, min_length=8, description="a secret that everybody who labels knows; the page asks for it"
    )
    http_user_header: str = Field(
        "", pattern=r"^[A-Za-z0-9-]*$", description="the header in which a reverse proxy says who asks; it must set it"
    )

    @property
    def listen_host(self) -> str:
        return self.http_host or self.host

    def check(self) -> None:
        """InvalidInput where nobody, or two at once, would say who labels."""
        if (self.http_token is None) == (not self.http_user_header):
            message = (
                "set one of LABELLOOP_HTTP_TOKEN, a secret that the page asks for, and LABELLOOP_HTTP_USER_HEADER, "
                "the header in which a reverse proxy says who asks: without, anybody could label in anybody's name"
            )
            raise InvalidInput("NO_AUTHENTICATION", message, field="http_token")


def from_environment() -> WebSettings | None:
    """None where no page is asked for. Ends the process for settings that are none; InvalidInput as in ``check``."""
    settings = read_settings(WebSettings)
    if settings.http_port is None:
        return None
    settings.check()
    return settings
