"""Certificates for displays with TLS."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_certificates(folder: Path) -> Path:
    """Make a certificate authority, a server's certificate for 127.0.0.1, and a client's. Only the owner can read the keys."""
    folder.mkdir(mode=0o700)

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    fresh = ("-newkey", "rsa:2048", "-nodes", "-days", "2")
    authority = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
    openssl("req", "-x509", *fresh, "-keyout", "ca-key.pem", "-out", "ca-cert.pem", "-subj", "/CN=test", *authority)
    for who, use in (("server", "serverAuth"), ("client", "clientAuth")):
        (folder / "ext").write_text(
            f"subjectAltName=IP:127.0.0.1\nextendedKeyUsage={use}\nkeyUsage=critical,digitalSignature,keyEncipherment\n"
        )
        openssl("req", *fresh, "-keyout", f"{who}-key.pem", "-out", f"{who}.csr", "-subj", f"/CN={who}")
        signed = ("-CA", "ca-cert.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-days", "2", "-extfile", "ext")
        openssl("x509", "-req", "-in", f"{who}.csr", "-out", f"{who}-cert.pem", *signed)
    (folder / "server-key.pem").chmod(0o600)
    return folder
