"""What `labelloop pool push` refuses before it calls a service."""

from __future__ import annotations

from pathlib import Path

import pytest
from labelloop.errors import InvalidInput
from labelloop_cli.operations.pool_uploads import push


@pytest.mark.parametrize("url", ["s3://bucket/pool", "gs://bucket", "https://data.example.org/pool.npy"])
async def test_a_url_is_not_uploaded(url: str) -> None:
    with pytest.raises(InvalidInput, match="a URL is not uploaded"):
        await push(Path(url), "")
