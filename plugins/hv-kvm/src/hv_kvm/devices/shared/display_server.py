"""What VNC and SPICE have in common: an address to serve on, a password, certificates, and who could get in. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Final

from hv_kvm.machine.bindings import Bindings
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.spec import Handed, Interface
from hvcore.plugin import Problem

__all__ = [
    "CERTIFICATES_HELP",
    "certificates",
    "interfaces",
    "ip_of",
    "on_loopback",
    "open_to_all",
    "password",
    "password_how",
    "secret",
    "served_at",
]

CERTIFICATES_HELP: Final = (
    "A directory with ca-cert.pem, server-cert.pem and server-key.pem, by which clients know this server."
)


def ip_of(bind: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a display is bound to, or None when it is an interface's name or a socket's path."""
    try:
        return ipaddress.ip_address(bind)
    except ValueError:
        return None


def on_loopback(bind: str) -> bool:
    """Whether only this node itself gets there."""
    ip = ip_of(bind)
    return bind == "lo" if ip is None else ip.is_loopback


def interfaces(bind: str, param: str, family: int = 0) -> tuple[Interface, ...]:
    """The interface whose address is to be looked up, when it is bound to one. Not for the path of a socket."""
    return () if ip_of(bind) is not None else (Interface(name=bind, param=param, family=family),)


def served_at(bind: str, found: tuple[Interface, ...], bindings: Bindings) -> str:
    """The address that it is bound to on this node, a symbol in a plan."""
    return bindings.addresses[found[0].key] if found else bind


def password(name: str, path: str | None, param: str, at_most: int) -> Iterator[Handed]:
    """The file with the password, which nobody else may read."""
    if path:
        yield Handed(name=name, path=path, param=param, password_bytes=at_most)


def certificates(folder: str, directory: str | None, param: str, *, optional: Iterable[str] = ()) -> Iterator[Handed]:
    """The server's certificate with its key and its authority, and what else of ``optional`` there is."""
    if directory is None:
        return
    required = ("ca-cert.pem", "server-cert.pem", "server-key.pem")
    for name in sorted((*required, *optional)):
        path = f"{directory.rstrip('/')}/{name}"
        yield Handed(name=f"{folder}/{name}", path=path, param=param, optional=name not in required)


def open_to_all(param: str, bind: str, *, tls: str | None, guarded_by: str | None) -> Iterator[Problem]:
    """Warnings for a display that others get to: ``tls`` and ``guarded_by`` are what to set, None for what is set."""
    if on_loopback(bind):
        return
    path, got = f"params.{param}", repr(bind)
    if tls is not None:
        what = "serves the display beyond this node without encryption"
        yield Problem(path=path, what=what, got=got, todo=f"set {tls} = true")
    if guarded_by is not None:
        what = "lets everybody who reaches the node open the display"
        yield Problem(path=path, what=what, got=got, todo=f"set {guarded_by}")


def password_how(option: str, *, by_secret: bool) -> str:
    """How this QEMU gets the password of a display, in words for ``capability``."""
    if by_secret:
        return f"{option} has password-secret"
    return f"{option} has no password-secret, so QMP sets the password before the guest runs"


def secret(name: str, param: str, bindings: Bindings, capability: str) -> Opt:
    """The password, from a file in the guest's own directory."""
    props: Props = {"id": name, "file": f"{bindings.guest_dir}/{name}"}
    why = "QEMU reads it from a file that is gone when the guest runs"
    return Opt(name="-object", head="secret", props=props, params=(param,), why=why, capability=capability)
