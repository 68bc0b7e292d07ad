"""The image from which cloud-init in the guest reads its settings. It is memory of QEMU: no file has the secrets in it."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from typing import Final

import hvcore.plugin as hv
from hv_kvm.machine.cloud_config import seed_files
from hv_kvm.machine.iso_image import iso_image
from hv_kvm.machine.resource import GuestFile, SeedImage
from hv_kvm.machine.sha512_crypt import is_hash, sha512_crypt

__all__ = ["SeedImageKind"]

_LABEL: Final = "cidata"
_SIZE_BYTES: Final = 1 << 20  # always the same, so that the guest's machine does not change with the contents
_PASSWORD_BYTES: Final = 512
_SALT: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


class SeedImageKind(hv.ResourceKind[SeedImage, GuestFile], name="seed-image", turn=hv.Turn.FILE):
    """Not in the ledger: the memory ends with QEMU."""

    def verify(self, resource: SeedImage, site: hv.Site) -> Iterator[hv.Problem]:
        """The files must be readable and not too large, and the password one that can work."""
        try:
            _image(resource)
        except ValueError as error:
            yield hv.Problem(path=resource.where, what=str(error), todo="correct the file, or name another")

    def describe(self, resource: SeedImage, site: hv.Site) -> Iterator[hv.Step]:
        """Which files are read."""
        seed = resource.contents
        read = [path for path in (seed.password_path, seed.user_data_path, seed.network_path) if path]
        source = f", from {', '.join(read)}" if read else ""
        what = f"make a seed image for cloud-init in memory{source}"
        yield hv.Step(kind="file", what=what)

    def placeholder(self, resource: SeedImage, site: hv.Site) -> GuestFile:
        """Its set with ``{fd:KEY}``."""
        return GuestFile(name=resource.key, set_id=resource.fdset, fds=(f"{{fd:{resource.key}}}",))

    def acquire(self, resource: SeedImage, held: hv.Held) -> GuestFile:
        """Make the image. Raises `OperationError`."""
        try:
            image = _image(resource)
        except ValueError as error:
            what = f"{held.owner.name}: {resource.where}: {error}"
            raise hv.OperationError(f"{what}; correct the file, or name another") from error
        fd = os.memfd_create("seed", os.MFD_CLOEXEC)
        try:
            os.fchmod(fd, 0o600)
            with open(fd, "wb", closefd=False) as file:
                file.write(image)
            opened = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(fd)
        return GuestFile(name=resource.key, set_id=resource.fdset, fds=(held.add(opened),))


def _image(resource: SeedImage) -> bytes:
    """The bytes of the image. Raises ValueError with what is wrong, never with a part of a file."""
    seed = resource.contents
    files = seed_files(
        seed,
        password_hash=None if seed.password_path is None else _hashed(seed.password_path),
        user_data=None if seed.user_data_path is None else _contents(seed.user_data_path),
        network=None if seed.network_path is None else _contents(seed.network_path),
    )
    return iso_image(_LABEL, files, size_bytes=_SIZE_BYTES)


def _hashed(path: str) -> str:
    line = _contents(path).partition(b"\n")[0].removesuffix(b"\r")
    if not line:
        raise ValueError(f"{path!r} has no password in its first line; an empty password would let everyone in")
    if len(line) > _PASSWORD_BYTES or b"\0" in line:
        raise ValueError(f"{path!r} has a password that is longer than {_PASSWORD_BYTES} bytes, or has a NUL byte")
    if is_hash(text := line.decode("utf-8", "replace")):
        return text
    return sha512_crypt(line, "".join(secrets.choice(_SALT) for _ in range(16)).encode())


def _contents(path: str) -> bytes:
    try:
        # Not blocking: opening a FIFO that nothing writes to would wait for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ValueError(f"{path!r} is not a regular file")
            data = os.read(fd, _SIZE_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise ValueError(f"{path!r} cannot be read ({error.strerror})") from error
    if len(data) > _SIZE_BYTES:
        raise ValueError(f"{path!r} is larger than 1 MiB")
    return data
