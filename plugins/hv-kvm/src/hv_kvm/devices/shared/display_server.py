"""What VNC and SPICE share: address, password, certificates, and warnings about open displays. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Final

import hvcore.plugin as hv
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import Bindings, PrivateCopy

__all__ = [
    "CERTIFICATES_HELP",
    "address_at",
    "certificates",
    "ip_of",
    "on_loopback",
    "open_to_all",
    "password",
    "password_how",
    "secret",
    "served_at",
]

CERTIFICATES_HELP: Final = (
    "The directory with ca-cert.pem, server-cert.pem and server-key.pem, so that clients can verify this server."
)


def ip_of(bind: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that a display is bound to; None for the name of an interface or the path of a socket."""
    try:
        return ipaddress.ip_address(bind)
    except ValueError:
        return None


def on_loopback(bind: str) -> bool:
    """Whether the display can be reached from this node only."""
    ip = ip_of(bind)
    return bind == "lo" if ip is None else ip.is_loopback


def address_at(bind: str, param: str, key: str, family: int = 0) -> str | hv.InterfaceAddress:
    """The IP address to serve on, or the resource that finds the address of an interface. Not for the path of a socket."""
    if ip_of(bind) is not None:
        return bind
    return hv.InterfaceAddress(key=key, given_by=f"params.{param}", interface=bind, family=family)


def served_at(address: str | hv.InterfaceAddress, bindings: Bindings) -> str:
    """The IP address on this node; in a plan, a symbol."""
    return address if isinstance(address, str) else bindings[address]


def password(name: str, path: str | None, param: str, at_most: int) -> Iterator[PrivateCopy]:
    """The copy of the password file, which only QEMU may read."""
    if path:
        yield PrivateCopy(key=name, given_by=f"params.{param}", path=path, password_bytes=at_most)


def certificates(
    folder: str, directory: str | None, param: str, *, optional: Iterable[str] = ()
) -> Iterator[PrivateCopy]:
    """Copies of the certificate, its key and its authority, and of those ``optional`` files that exist."""
    if directory is None:
        return
    required = ("ca-cert.pem", "server-cert.pem", "server-key.pem")
    for name in sorted((*required, *optional)):
        path = f"{directory.rstrip('/')}/{name}"
        yield PrivateCopy(key=f"{folder}/{name}", given_by=f"params.{param}", path=path, optional=name not in required)


def open_to_all(param: str, bind: str, *, tls: str | None, guarded_by: str | None) -> Iterator[hv.Problem]:
    """Warnings about a display that other hosts can reach: ``tls`` and ``guarded_by`` say what to set, None if it is set."""
    if on_loopback(bind):
        return
    path, got = f"params.{param}", repr(bind)
    if tls is not None:
        what = "shows the display to other hosts without encryption"
        yield hv.Problem(path=path, what=what, got=got, todo=f"set {tls} = true")
    if guarded_by is not None:
        what = "lets every host that can reach this node open the display"
        yield hv.Problem(path=path, what=what, got=got, todo=f"set {guarded_by}")


def password_how(option: str, *, by_secret: bool) -> str:
    """How this QEMU gets the password of a display, as text for ``capability``."""
    if by_secret:
        return f"{option} has password-secret"
    return f"{option} has no password-secret, so QMP sets the password before the guest runs"


def secret(name: str, param: str, bindings: Bindings, capability: str) -> Opt:
    """The password, in a file in the guest's directory."""
    props: Props = {"id": name, "file": f"{bindings.guest_dir}/{name}"}
    why = "QEMU reads the password from a file that is removed before the guest runs"
    return Opt(name="-object", head="secret", props=props, params=(param,), why=why, capability=capability)
