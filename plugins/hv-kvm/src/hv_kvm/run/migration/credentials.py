"""The key and the certificate of one side of a migration, made on the node where they stay.

Each side gives its certificate to the other, and trusts only that of the other. A certificate is of one launch of the guest.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hvcore.plugin import dataclass

__all__ = ["Credentials", "credentials"]

_OPENSSL: Final = "openssl"
_DEADLINE_S: Final = 30.0
_KEY: Final = "migration.key"
_CERTIFICATE: Final = "migration.crt"
_NEW: Final = ".new"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A private key and its certificate, as PEM."""

    key: str
    certificate: str


def credentials(directory: Path) -> Credentials:
    """Those in the directory of the instance, which are made if they do not exist. Raises `OperationError`."""
    key, certificate = directory / _KEY, directory / _CERTIFICATE
    if not certificate.exists():
        _make(directory, key, certificate)
    return Credentials(key=key.read_text(encoding="ascii"), certificate=certificate.read_text(encoding="ascii"))


def _make(directory: Path, key: Path, certificate: Path) -> None:
    """The certificate comes last: with it both are complete."""
    new = [path.with_name(path.name + _NEW) for path in (key, certificate)]
    for path in new:
        path.unlink(missing_ok=True)
    argv = (
        *(_OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-days", "3650", "-subj", "/CN=hvcore", "-keyout", str(new[0]), "-out", str(new[1])),
    )
    life, status = directory / hv.LIFE_LOCK, directory / hv.STATUS
    ended, output = hv.run_tool(argv, life=life, status=status, deadline_s=_DEADLINE_S)
    if ended is None or ended.code != 0:
        said = " ".join(output.split())[-200:] or "without output"
        how = "does not end" if ended is None else f"{ended}: {said}"
        raise hv.OperationError(f"{directory.name}: {_OPENSSL} cannot make a certificate, it {how}; run it by hand")
    for path, final in zip(new, (key, certificate), strict=True):
        path.chmod(0o600)
        os.replace(path, final)
