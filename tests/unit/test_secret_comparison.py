"""Comparison of secrets, given as text or bytes."""

from __future__ import annotations

import pytest

from oracle_svc.secret_comparison import same_secret


@pytest.mark.parametrize(
    ("given", "secret", "same"),
    [
        ("secret", "secret", True),
        ("Secret", "secret", False),
        ("", "secret", False),
        ("sécret", "sécret", True),
        ("\udcff", "secret", False),
        (b"\xff", b"\xff", True),
        (b"secret", "secret", True),
    ],
)
def test_only_an_equal_secret_matches(given: str | bytes, secret: str | bytes, same: bool) -> None:
    assert same_secret(given, secret) is same
