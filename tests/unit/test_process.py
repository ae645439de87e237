"""A service that ends itself."""

from __future__ import annotations

import subprocess
import sys

SERVICE = """
import sys
from labelloop.runtime.process import run_service
from labelloop.settings import ServiceSettings

async def serve(settings):
    print("the token is too short", file=sys.stderr)
    raise SystemExit(2)

run_service("test", ServiceSettings(port=0), serve)
"""


def test_a_service_with_a_wrong_setting_says_so_without_a_traceback() -> None:
    ended = subprocess.run([sys.executable, "-c", SERVICE], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (2, "the token is too short\n")
