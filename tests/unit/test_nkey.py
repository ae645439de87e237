"""The text form of NATS keys, checked by vectors of the reference implementation."""

from __future__ import annotations

from base64 import b32decode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from labelloop.errors import InvalidInput
from labelloop.eventlog.nkey import UserKey, new_seed, read_key

SEED = b"SUAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEQ"  # of 32 zero bytes
PUBLIC = "UA5WUJ54Z23KILLCUOUNAKTPBVZWKMQVO4O6EQ5GHLAERIMLLHNCTYM5"


def test_a_known_seed_has_its_known_public_key() -> None:
    assert UserKey(SEED).public == PUBLIC


def test_new_seeds_are_distinct_user_keys() -> None:
    seeds = {new_seed() for _ in range(100)}
    assert len(seeds) == 100
    assert {(seed[:2], len(seed)) for seed in seeds} == {(b"SU", len(SEED))}
    publics = {UserKey(seed).public for seed in seeds}
    assert len(publics) == 100
    assert {(public[:1], len(public)) for public in publics} == {("U", len(PUBLIC))}


def test_a_signature_is_valid_for_the_public_key() -> None:
    key = UserKey(new_seed())
    header_and_checksum = slice(1, -2)
    public = Ed25519PublicKey.from_public_bytes(b32decode(key.public)[header_and_checksum])
    public.verify(key.sign(b"nonce"), b"nonce")


@pytest.mark.parametrize("content", [SEED, SEED + b"\n", b"  " + SEED + b"\r\n\n"])
def test_white_space_around_a_seed_is_ignored(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "user.seed"
    path.write_bytes(content)
    assert read_key(path).public == PUBLIC


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (None, "No such file"),
        (b"", "empty"),
        (b" \n", "empty"),
        (bytes(range(256)), "other characters"),
        (SEED.lower(), "other characters"),
        (SEED[:20] + b"\n" + SEED[20:], "other characters"),
        (PUBLIC.encode(), "a public key is not enough"),
        (b"SAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAHT5A", "of an account, not of a user"),
        (b"SUANOTASEED", "11 characters where a seed has 58"),
        (SEED[:-1], "57 characters"),
        (SEED * 100, "characters where a seed has 58"),
        (SEED[:30] + b"B" + SEED[31:], "checksum"),
        (SEED[:-2] + b"AA", "checksum"),
    ],
)
def test_the_error_for_an_invalid_seed_file_tells_cause_and_remedy(
    content: bytes | None, wrong: str, tmp_path: Path
) -> None:
    path = tmp_path / "user.seed"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInput, match=wrong) as raised:
        read_key(path)
    assert "labelloop keys nats" in raised.value.message
    assert str(path) in raised.value.message


def test_an_error_does_not_quote_the_seed(tmp_path: Path) -> None:
    path = tmp_path / "user.seed"
    path.write_bytes(SEED[:-1])
    with pytest.raises(InvalidInput) as raised:
        read_key(path)
    assert SEED[2:12].decode() not in str(raised.value)


def test_the_checksum_detects_any_changed_character() -> None:
    for place in range(2, len(SEED) - 1):
        changed = SEED[:place] + (b"B" if SEED[place : place + 1] != b"B" else b"C") + SEED[place + 1 :]
        with pytest.raises(ValueError, match="checksum"):
            UserKey(changed)
