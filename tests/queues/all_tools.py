"""Which tools' tests run where: all of them take minutes."""

from __future__ import annotations

import os

import pytest


def all_tools() -> bool:
    return bool(os.environ.get("LABELLOOP_ALL_TOOLS"))


def only_with_all_tools() -> pytest.MarkDecorator:
    return pytest.mark.skipif(not all_tools(), reason="takes a minute: make test-queues")
