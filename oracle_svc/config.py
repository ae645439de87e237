"""Define the oracle's settings, read from ``LABELLOOP_<NAME>`` environment variables."""

from __future__ import annotations

from pathlib import Path

from labelloop.domain.remote_urls import parsed_prefixes
from labelloop.eventlog.streams import UPLOAD_GB
from labelloop.settings import ServiceSettings
from platformdirs import user_cache_path
from pydantic import Field, field_validator

from oracle_svc.datasets.hidden_files import HiddenFiles
from oracle_svc.lease_table import RESEND_S
from oracle_svc.samples.requests import INLINE_BYTES_MAX


class OracleSettings(ServiceSettings):
    port: int = Field(50053, ge=0, le=65535, description="the port to listen on; 0 for any free one")
    data_dir: Path | None = Field(None, description="a folder that may hold MNIST already")
    pools_dir: Path | None = Field(None, description="the only folder that runs may name files in; none: they may not")
    hidden_files: str = Field(
        "",
        description="what no run may read there, separated by commas: patterns below pools_dir, such as "
        "truth/*,*.truth.csv; letter case does not matter",
    )
    cache_dir: Path = Field(user_cache_path("labelloop"), description="where downloads and parts of pools are kept")
    samples_cache_gb: float = Field(1.0, gt=0, description="how much is kept there of pools, to show samples of them")
    upload_gb: float = Field(UPLOAD_GB, ge=0, description="how much clients may upload in all; 0: nothing")
    remote_pools: str = Field(
        "",
        description="what runs may name elsewhere, separated by commas: s3://bucket/sets/, gs://bucket, "
        "https://host/sets/; it is read with the oracle's credentials, so nothing may be by default",
    )
    uploads_cache_gb: float = Field(
        4.0, gt=0, description="how much of uploads and remote pools is kept in cache_dir, to read pools"
    )
    inline_bytes_max: int = Field(
        INLINE_BYTES_MAX, ge=0, description="larger samples are sent as links, where http_url says how they begin"
    )
    resend_s: float = Field(
        RESEND_S, ge=1, description="seconds until a tool is asked again for what it did not answer"
    )

    @field_validator("hidden_files")
    @classmethod
    def _are_patterns(cls, text: str) -> str:
        HiddenFiles.of(text)
        return text

    @field_validator("remote_pools")
    @classmethod
    def _are_prefixes(cls, text: str) -> str:
        parsed_prefixes(text)
        return text
