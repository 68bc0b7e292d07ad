"""SHA-256 of a few bytes, as names of files, links and groups have it."""

from __future__ import annotations

__all__ = ["sha256_hex"]


def sha256_hex(data: bytes) -> str:
    """The digest as 64 hexadecimal digits."""
    import hashlib  # noqa: PLC0415 - 6.5 ms (OpenSSL), which most commands do not need

    return hashlib.sha256(data).hexdigest()
