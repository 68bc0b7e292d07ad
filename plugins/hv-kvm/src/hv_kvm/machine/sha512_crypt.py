"""The hash of a password that Linux keeps in /etc/shadow: SHA-512 crypt, ``$6$``. Pure.

Python's own module for it is gone since 3.13. The algorithm is in the specification by Ulrich Drepper (2008).
"""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ["is_hash", "sha512_crypt"]

_ROUNDS: Final = 5000
_BYTES: Final = 64
_ALPHABET: Final = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KINDS: Final = ("$1$", "$2a$", "$2b$", "$2y$", "$5$", "$6$", "$7$", "$y$", "$gy$")


def is_hash(text: str) -> bool:
    """Whether the text is a hash of crypt(5) already, and no password."""
    return text.startswith(_KINDS) and text.count("$") > 2 and " " not in text


def sha512_crypt(password: bytes, salt: bytes) -> str:
    """The hash with 5000 rounds. ``salt`` has at most 16 bytes of the alphabet of crypt(5)."""
    digest = hashlib.sha512
    second = digest(password + salt + password).digest()
    first = digest(password + salt + _repeated(second, len(password)))
    length = len(password)
    while length:
        first.update(second if length & 1 else password)
        length >>= 1
    mixed = first.digest()
    word = _repeated(digest(password * len(password)).digest(), len(password))
    grain = _repeated(digest(salt * (16 + mixed[0])).digest(), len(salt))
    for turn in range(_ROUNDS):
        data = word if turn & 1 else mixed
        data += grain if turn % 3 else b""
        data += word if turn % 7 else b""
        mixed = digest(data + (mixed if turn & 1 else word)).digest()
    return f"$6${salt.decode('ascii')}${_encoded(mixed)}"


def _repeated(data: bytes, length: int) -> bytes:
    return (data * (length // len(data) + 1))[:length]


def _encoded(digest: bytes) -> str:
    """The bytes in crypt's order and alphabet: 21 groups of three, each begun one further, and the last byte."""
    text = ""
    for group in range(21):
        trio = [group, group + 21, group + 42]
        start = group % 3
        a, b, c = (digest[index] for index in trio[start:] + trio[:start])
        text += _letters(a << 16 | b << 8 | c, 4)
    return text + _letters(digest[_BYTES - 1], 2)


def _letters(number: int, count: int) -> str:
    return "".join(_ALPHABET[number >> 6 * place & 0x3F] for place in range(count))
