"""Wrong settings of services, in the words of the services themselves, before any of them starts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from labelloop.errors import InvalidInput
from labelloop_cli.local.settings_check import check_settings

UNREACHABLE = {"LABELLOOP_NATS_URL": "nats://127.0.0.1:9"}


async def test_wrong_settings_of_all_services_are_named() -> None:
    wrong = {"LABELLOOP_REPLICAS": "9", "LABELLOOP_FIT_THREADS": "0", "SCORER_WORKERS": "none"}
    with pytest.raises(InvalidInput) as refused:
        await check_settings(wrong | {"LABELLOOP_REMOTE_POOLS": "ftp://x"}, {})
    assert refused.value.message.startswith("LABELLOOP_REPLICAS: Input should be less than or equal to 5, not '9'; ")
    assert refused.value.message.count("LABELLOOP_REPLICAS") == 1
    for named in ("LABELLOOP_FIT_THREADS: ", "SCORER_WORKERS: ", "LABELLOOP_REMOTE_POOLS: 'ftp://x' "):
        assert f"; {named}" in refused.value.message


async def test_a_setting_that_came_from_an_option_is_named_by_it() -> None:
    with pytest.raises(InvalidInput, match=r"^--remote-pools: "):
        await check_settings({"LABELLOOP_REMOTE_POOLS": "ftp://x"}, {"LABELLOOP_REMOTE_POOLS": "--remote-pools"})


async def test_right_settings_pass() -> None:
    await check_settings({"LABELLOOP_HTTP_PORT": "0", "LABELLOOP_HTTP_TOKEN": "long-enough"}, {})


def test_the_oracle_refuses_a_setting_of_the_page_before_it_connects() -> None:
    environment = {**os.environ, **UNREACHABLE, "LABELLOOP_HTTP_PORT": "0", "LABELLOOP_HTTP_TOKEN": "s3cret"}
    command = [sys.executable, "-m", "oracle_svc"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("LABELLOOP_HTTP_TOKEN: ")
    assert len(done.stderr.splitlines()) == 1
