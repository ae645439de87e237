"""Read and create nkeys, the Ed25519 keys by which a NATS broker knows its users, as text in base32.

A seed is 58 characters that start with ``SU``, a public key 56 that start with ``U``. Both encode a header, 32 bytes
and a CRC-16 (XMODEM, little-endian).
"""

from __future__ import annotations

import base64
import binascii
import secrets
import string
from pathlib import Path
from typing import TYPE_CHECKING

from labelloop.errors import InvalidInput

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_SEED, _USER = 18 << 3, 20 << 3  # five bits each, the first character: S, U
_SEED_HEADER = bytes([_SEED | _USER >> 5, (_USER & 31) << 3])
_KEY_BYTES, _CHECKSUM_BYTES = 32, 2
_SEED_LENGTH = 58
_FILE_BYTES_MAX = 1_024
_ALPHABET = frozenset((string.ascii_uppercase + "234567").encode())
_KINDS = {b"A": "an account", b"O": "an operator", b"N": "a server", b"C": "a cluster", b"X": "encryption"}


class BadSeed(ValueError):
    """Text that is not the seed of a user. The message says what is wrong with it and never quotes it."""


class UserKey:
    """The key pair of a user.

    Args:
        seed: Its text form, without white space around it.

    Raises:
        BadSeed: If it is not the seed of a user.
    """

    def __init__(self, seed: bytes) -> None:
        self._private = _private_key(_decode(seed))

    @property
    def public(self) -> str:
        """The text form of the public key, by which the broker's configuration names the user."""
        header = bytes([_USER])
        return _encode(header + self._private.public_key().public_bytes_raw()).decode()

    def sign(self, nonce: bytes) -> bytes:
        """Return the signature of ``nonce``, 64 bytes."""
        return self._private.sign(nonce)


def new_seed() -> bytes:
    """Create a random seed of a user, in text form."""
    return _encode(_SEED_HEADER + secrets.token_bytes(_KEY_BYTES))


def read_key(path: Path) -> UserKey:
    """Read the key whose seed a file holds, with or without white space around it.

    Raises:
        InvalidInput: If the file cannot be read or holds no seed of a user.
    """
    try:
        with path.open("rb") as file:
            return UserKey(file.read(_FILE_BYTES_MAX).strip())
    except (OSError, BadSeed) as error:
        message = (
            f"LABELLOOP_NATS_NKEY_FILE={path} cannot be used: {error}; `labelloop keys nats FOLDER` makes seeds of "
            "users: set it to one of FOLDER/<user>.seed"
        )
        raise InvalidInput("BAD_NKEY", message, field="nats_nkey_file", path=path) from error


def _private_key(raw: bytes) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(raw)


def _encode(data: bytes) -> bytes:
    return base64.b32encode(data + _checksum(data)).rstrip(b"=")


def _decode(seed: bytes) -> bytes:
    if not seed:
        raise BadSeed("it is empty")
    if not _ALPHABET.issuperset(seed):
        raise BadSeed("it holds other characters than the capitals and digits of base32")
    if seed[:1] != b"S":
        raise BadSeed("it does not start with SU, as seeds of users do; a public key is not enough")
    if seed[1:2] != b"U":
        raise BadSeed(f"it is a seed of {_KINDS.get(seed[1:2], 'another kind')}, not of a user")
    if len(seed) != _SEED_LENGTH:
        raise BadSeed(f"it has {len(seed)} characters where a seed has {_SEED_LENGTH}")
    data = base64.b32decode(seed + b"=" * (-len(seed) % 8))
    body, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    if checksum != _checksum(body) or not body.startswith(_SEED_HEADER):
        raise BadSeed("its checksum is wrong: a character is not what it was")
    return body[len(_SEED_HEADER) :]


def _checksum(data: bytes) -> bytes:
    return binascii.crc_hqx(data, 0).to_bytes(_CHECKSUM_BYTES, "little")
