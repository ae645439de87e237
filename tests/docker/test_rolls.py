"""Two scorers with one host name, killed and rolled in turn under load: no call fails."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.blobs import IMAGE_BYTES
from tests.docker.conftest import image
from tests.docker.stack import Stack, wait_until

ROLLS = int(os.environ.get("LABELLOOP_ROLLS", "100"))
CALLS_A_ROLL_MIN = 20

pytestmark = pytest.mark.timeout(120 + 15 * ROLLS)


@pytest.fixture
def scorers(stack: Stack) -> Iterator[tuple[str, str]]:
    """Ids of the stack's scorer and of another like it, with the same host name."""
    first = stack.inspect("scorer")
    options = [
        *("--network", "labelloop_labelloop", "--network-alias", "scorer", "--read-only", "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges:true", "--tmpfs", "/tmp", "--tmpfs", "/cache:uid=65532"),
        *("--memory", str(first["HostConfig"]["Memory"])),
        *(part for setting in first["Config"]["Env"] for part in ("--env", setting)),
    ]
    second = stack.engine.docker("run", "--detach", *options, image("scorer"))
    try:
        wait_ready(stack, second)
        yield first["Id"], second
    finally:
        stack.engine.docker("rm", "--force", "--volumes", second)


@pytest.fixture
def load(stack: Stack, run_id: str, scorers: tuple[str, str]) -> Iterator[str]:
    """The id of a container that calls both."""
    program = Path(__file__).with_name("calling.py")
    caller = stack.engine.docker(
        *("run", "--detach", "--network", "labelloop_labelloop", "--read-only", "--tmpfs", "/tmp"),
        *("--volume", f"{program}:/calling.py:ro", "--entrypoint", "python", image("cli")),
        *("/calling.py", "dns:///scorer:50052", run_id, str(IMAGE_BYTES)),
    )
    try:
        yield caller
    finally:
        stack.engine.docker("rm", "--force", caller)


def wait_ready(stack: Stack, container: str) -> None:
    """Wait for its ready file, which is in memory: a start begins without it."""
    look = "test -e /tmp/ready && echo ready; true"
    wait_until(lambda: stack.engine.docker("exec", container, "sh", "-c", look) == "ready", f"{container} is ready")


def test_no_call_fails_while_scorers_are_killed_and_rolled(stack: Stack, scorers: tuple[str, str], load: str) -> None:
    begin = time.monotonic()
    for roll in range(ROLLS):
        scorer, way = scorers[roll % 2], ("kill", "stop")[roll // 2 % 2]  # each by SIGKILL and by SIGTERM
        stack.engine.docker(way, scorer)
        stack.engine.docker("start", scorer)
        wait_ready(stack, scorer)
    seconds = time.monotonic() - begin
    stack.engine.docker("stop", load)
    said = json.loads(stack.engine.docker("logs", load))
    calls, failed = said["calls"], said["failed"]
    print(f"{ROLLS} rolls in {seconds:.0f} s, {calls} calls, {len(failed)} failed, longest {said['longest_s']} s")
    for scorer in scorers:
        assert all(served_by_each_life(stack, scorer)), "a scorer came back and got no calls"
    assert failed == []
    assert said["answers"] == 1
    assert calls > CALLS_A_ROLL_MIN * ROLLS


def served_by_each_life(stack: Stack, scorer: str) -> list[int]:
    """Count the Score calls that a scorer answered between each start and SIGTERM, as it logs when it ends."""
    lines = [line for line in stack.engine.docker("logs", scorer).splitlines() if '"calls_served"' in line]
    return [json.loads(line)["calls"].get("Score", 0) for line in lines]
