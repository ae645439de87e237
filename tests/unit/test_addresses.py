"""Addresses that LABELLOOP_SCORER accepts."""

from __future__ import annotations

import pytest

from trainer_svc.scorers.addresses import Host, parse_hosts


@pytest.mark.parametrize(
    ("target", "hosts"),
    [
        ("127.0.0.1:50052", [Host("127.0.0.1", 50052)]),
        ("ipv4:127.0.0.1:1,127.0.0.2:2", [Host("127.0.0.1", 1), Host("127.0.0.2", 2)]),
        ("127.0.0.1:1, scorer:2", [Host("127.0.0.1", 1), Host("scorer", 2)]),
        ("ipv6:[::1]:1", [Host("::1", 1)]),
        ("scorer.ml.svc:50052", [Host("scorer.ml.svc", 50052)]),
        ("dns:scorer:50052", [Host("scorer", 50052)]),
        ("dns:///scorer:50052", [Host("scorer", 50052)]),
        ("scorer-dns:50052", [Host("scorer-dns", 50052)]),
    ],
)
def test_hosts_are_parsed_from_the_forms_of_a_grpc_target(target: str, hosts: list[Host]) -> None:
    assert parse_hosts(target) == hosts


@pytest.mark.parametrize(("name", "is_number"), [("127.0.0.1", True), ("::1", True), ("scorer", False)])
def test_numeric_addresses_are_distinguished_from_names(name: str, is_number: bool) -> None:
    assert Host(name, 1).is_number is is_number


@pytest.mark.parametrize(
    "target",
    [
        "",
        "scorer",
        ":1",
        "scorer:",
        "scorer:x",
        "scorer:0",
        "scorer:65536",
        "a:1,,b:1",
        "a:1/b",
        "u@a:1",
        "a:1,dns:b:2",
    ],
)
def test_a_malformed_target_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_hosts(target)
