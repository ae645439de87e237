"""Define the labelling page's settings, read from ``LABELLOOP_HTTP_<NAME>`` environment variables."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from labelloop.domain.limits import TOKEN_CHARACTERS_MIN
from labelloop.errors import InvalidInput
from labelloop.settings import read_settings
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from oracle_svc.samples.signed_urls import SignedUrls


class WebSettings(BaseSettings):
    """Settings of the labelling page; ``host`` and ``drain_s`` are the service's own."""

    model_config = SettingsConfigDict(env_prefix="LABELLOOP_", frozen=True)

    host: str = Field("127.0.0.1", description="the address to listen on where http_host names no other")
    drain_s: float = Field(5.0, ge=0, description="how long requests in flight may take to end after SIGTERM")
    http_port: int | None = Field(
        None, ge=0, le=65535, description="the page's port; 0 for any free one; none: no page"
    )
    http_host: str = Field("", description="the address that the page listens on; empty: as host")
    http_token: SecretStr | None = Field(
        None,
        min_length=TOKEN_CHARACTERS_MIN,
        description="a secret that everybody who labels knows; the page asks for it",
    )
    http_user_header: str = Field(
        "", pattern=r"^[A-Za-z0-9-]*$", description="the header in which a reverse proxy says who asks; it must set it"
    )

    http_url: str = Field(
        "",
        pattern=r"^(https?://[^\s/?#]+[^\s?#]*)?$",
        description="where people and tools reach that port, https://HOST[/PATH]; large samples are then sent as links",
    )
    http_secret: SecretStr | None = Field(
        None, min_length=16, description="what links to samples are signed with; none: http_token"
    )

    http_connections: int = Field(
        1_000, ge=10, description="connections to the port at once; a quarter of all descriptors at most"
    )
    http_connections_of_one: int = Field(
        250,
        ge=10,
        description="of these, from one address, or one /64 network of IPv6; http_proxies may have all of them, "
        "and so may any address where http_user_header is set",
    )
    http_proxies: str = Field(
        "127.0.0.1, ::1",
        description="addresses and networks of reverse proxies, separated by commas: their X-Forwarded-For says who "
        "asks",
    )

    @field_validator("http_proxies")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        for each in networks_of(text):
            ip_network(each)
        return text

    @property
    def listen_host(self) -> str:
        return self.http_host or self.host

    @property
    def proxies(self) -> list[str]:
        """Addresses and networks of reverse proxies."""
        return networks_of(self.http_proxies)

    def is_proxy(self, address: str) -> bool:
        """Return whether connections from ``address`` come from a reverse proxy."""
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in ip_network(each) for each in self.proxies)

    def check(self) -> None:
        """Raise InvalidInput unless exactly one source names annotators, and links, if used, can be signed."""
        if (self.http_token is None) == (not self.http_user_header):
            message = (
                "set one of LABELLOOP_HTTP_TOKEN, a secret that the page asks for, and LABELLOOP_HTTP_USER_HEADER, "
                "the header in which a reverse proxy says who asks: without, anybody could label in anybody's name"
            )
            raise InvalidInput("NO_AUTHENTICATION", message, field="http_token")
        if self.http_url and not self._secret:
            message = (
                "set LABELLOOP_HTTP_SECRET, 16 characters or more and the same for all oracles: with "
                "LABELLOOP_HTTP_URL samples are sent as links, which it signs, and no LABELLOOP_HTTP_TOKEN is there"
            )
            raise InvalidInput("NO_SIGNING_SECRET", message, field="http_secret")

    @property
    def links(self) -> SignedUrls | None:
        """Signer of links to samples; None if none are sent as links."""
        return SignedUrls(self.http_url, self._secret) if self.http_url else None

    @property
    def _secret(self) -> str:
        secret = self.http_secret or self.http_token
        return secret.get_secret_value() if secret else ""


def networks_of(text: str) -> list[str]:
    """Return the parts of a list that is separated by commas."""
    return [each.strip() for each in text.split(",") if each.strip()]


def from_environment() -> WebSettings | None:
    """Read the settings; None if no page is configured.

    Ends the process for malformed settings. Raises InvalidInput as ``check`` does, and for a URL without a port.
    """
    settings = read_settings(WebSettings)
    if settings.http_port is None:
        if settings.http_url:
            message = "LABELLOOP_HTTP_URL leads to a port that nothing listens on: set LABELLOOP_HTTP_PORT too"
            raise InvalidInput("NO_HTTP_PORT", message, field="http_port")
        return None
    settings.check()
    return settings
