"""What `labelloop pool push` refuses before it calls a service."""

from __future__ import annotations

from pathlib import Path

import pytest
from labelloop.errors import InvalidInput, NotFound
from labelloop_cli.operations.pool_uploads import push


@pytest.mark.parametrize("url", ["s3://bucket/pool", "gs://bucket", "https://data.example.org/pool.npy"])
async def test_a_url_is_not_uploaded(url: str) -> None:
    with pytest.raises(InvalidInput, match="a URL is not uploaded"):
        await push(Path(url), "")


async def test_a_missing_file_is_said_before_services_that_are_away(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no file or folder"):
        await push(tmp_path / "pool.npy", "")
