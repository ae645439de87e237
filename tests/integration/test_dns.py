"""Scorers found by DNS: a real name server and the machine's own resolver, in a network namespace."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.dns_trial import ZONES
from tests.patience import PATIENCE_S


@pytest.fixture
def network() -> Iterator[str]:
    """A network namespace with its own name server at 127.0.0.1."""
    if not shutil.which("ip") or os.geteuid() != 0:
        pytest.skip("needs root and `ip`, to make a network with a name server of its own")
    name = f"labelloop-{os.getpid()}"
    settings = Path("/etc/netns") / name  # `ip netns exec` uses its files instead of those in /etc
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no network namespace can be made here: {made.stderr.strip()}")
    try:
        settings.mkdir(parents=True)
        (settings / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1\n")
        subprocess.run(["ip", "netns", "exec", name, "ip", "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
        shutil.rmtree(settings)


def test_known_scorers_follow_the_addresses_of_their_dns_name(network: str) -> None:
    trial = ["ip", "netns", "exec", network, sys.executable, "-m", "tests.integration.dns_trial"]
    done = subprocess.run(trial, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    known = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    expected = [[f"{address}:50052" for address in zone] for zone in ZONES]
    expected[-1] = expected[-2]  # an empty zone removes no scorer
    assert known == expected
