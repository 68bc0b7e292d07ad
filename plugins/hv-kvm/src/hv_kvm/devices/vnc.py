"""A graphical display over VNC, with or without encryption and a password."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.display_server import (
    CERTIFICATES_HELP,
    address_at,
    certificates,
    open_to_all,
    password,
    password_how,
    secret,
    served_at,
)
from hv_kvm.devices.shared.params import problem
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import HOST_NETWORK, Bindings, DataFile
from hv_kvm.machine.spec import Device, KvmSpec, when_planned
from hv_kvm.paths import VNC
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "PASSWORD", "Vnc", "assess", "check", "plan", "render", "verify"]

PASSWORD: Final = "vnc-password"  # noqa: S105 - the name of a file, not what is in it
_CREDS: Final = "vnc-tls"
_FIRST_PORT: Final = 5900
_AUTO_PORTS: Final = 1000
_PRIVATE: Final = "socket"
_PASSWORD_BYTES: Final = 8  # QEMU takes more, and RFB 6 (VNC authentication) compares the first 8 only

# The layouts of every QEMU from 5.2 to 11 (pc-bios/keymaps). Resource DataFile checks the QEMU that will run.
_KEYMAPS: Final = (
    *("ar", "bepo", "cz", "da", "de", "de-ch", "en-gb", "en-us", "es", "et", "fi", "fo", "fr", "fr-be", "fr-ca"),
    *("fr-ch", "hr", "hu", "is", "it", "ja", "lt", "lv", "mk", "nl", "no", "pl", "pt", "pt-br", "ru", "sl", "sv"),
    *("th", "tr"),
)

PARAMS: Final = hv.ParamGroup(
    "vnc",
    hv.Param(
        "vnc_bind_address",
        hv.address_or_path(interface=True),
        help="Where the node serves the VNC display: an IP address, a network interface for its first address, or the path "
        "of a Unix socket. If the path is a directory, the socket is NAME.vnc in it. With socket, it is a Unix socket in the "
        "run directory, which only the user who starts the guest can open.",
        default_means="no VNC display",
        example="127.0.0.1",
    ),
    hv.Param(
        "vnc_port",
        hv.port(minimum=_FIRST_PORT),
        help="The TCP port of the VNC display.",
        default_means="the first free port from 5900, which hv info shows",
        example=5901,
    ),
    hv.Param(
        "vnc_tls",
        hv.boolean(),
        default=False,
        help="Whether the VNC display is encrypted. Without vnc_x509_path this protects against eavesdropping but not "
        "against an impostor.",
        example=True,
    ),
    hv.Param(
        "vnc_x509_path",
        hv.directory(),
        help=CERTIFICATES_HELP,
        default_means="none: vnc_tls encrypts without certificates",
        example="/etc/pki/vnc",
    ),
    hv.Param(
        "vnc_x509_verify",
        hv.boolean(),
        default=False,
        help="Whether VNC clients need a certificate that the authority of vnc_x509_path has signed.",
        example=True,
    ),
    hv.Param(
        "vnc_password_file",
        hv.file(),
        help="The file whose first line is the VNC password. VNC uses at most 8 bytes.",
        default_means="no password",
        changes="launch",
        example="/etc/hvcore/web1.vnc",
    ),
    hv.Param(
        "keymap",
        hv.one_of(*_KEYMAPS),
        help="The keyboard layout for VNC clients that send characters and not key codes.",
        default_means="en-us",
        changes="launch",
        example="de",
    ),
    help="A display for VNC viewers.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vnc(Device):
    """A display and where it is served.

    With ``port`` None, QEMU picks one. ``bind`` is an IP address, the path of a Unix socket, ``socket`` for one that has no
    other path, or an interface, which means its address on the node where the guest runs. ``x509`` is the directory of
    certificates.
    """

    bind: str
    port: int | None
    tls: bool = False
    x509: str | None = None
    verify_peer: bool = False
    password_file: str | None = None
    keymap: str | None = None

    @property
    def unix(self) -> bool:
        """Whether the display is on a Unix socket."""
        return _is_unix(self.bind)

    @property
    def private(self) -> bool:
        """Whether the Unix socket is in the guest's directory only."""
        return self.bind == _PRIVATE

    @property
    def creds_type(self) -> str:
        """The type of QEMU's object for TLS."""
        return "tls-creds-x509" if self.x509 else "tls-creds-anon"

    @property
    def address(self) -> str | hv.InterfaceAddress:
        """The IP address to serve on, or the resource that finds that of an interface."""
        return address_at(self.bind, "vnc_bind_address", "vnc.address")

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """The link or the network, copies of the password and the certificates for the guest's uid, and the keymap."""
        if self.unix and not self.private:
            name = f"{spec.name}.vnc"
            given_by, target = "params.vnc_bind_address", f"guest/{VNC}"
            yield hv.Link(key="vnc.link", given_by=given_by, path=self.bind, target=target, name=name)
        elif not self.unix:
            yield HOST_NETWORK
            if not isinstance(self.address, str):
                yield self.address
            # Without a port QEMU picks one; the address is checked all the same.
            given_by = "params.vnc_bind_address" if self.port is None else "params.vnc_port"
            yield hv.TcpPort(key="vnc", given_by=given_by, bind=self.address, port=self.port or 0, first=_FIRST_PORT)
        yield from password(PASSWORD, self.password_file, "vnc_password_file", _PASSWORD_BYTES)
        yield from certificates(_CREDS, self.x509, "vnc_x509_path", optional=("ca-crl.pem", "dh-params.pem"))
        if self.keymap:
            yield DataFile(key="keymap", given_by="params.keymap", qemu=spec.qemu, path=f"keymaps/{self.keymap}")


DEVICES: Final = (Vnc,)


@hv.hookimpl
@hv.when_given("vnc_port", "vnc_x509_path", "vnc_x509_verify")
def check(params: hv.Params) -> Iterator[hv.Problem]:
    """A port needs an address, certificates need TLS, and verifying clients needs an authority."""
    bind = params["vnc_bind_address"]
    if params["vnc_port"] is not None and (bind is None or _is_unix(bind)):
        what = "is set, but vnc_bind_address is not an IP address or interface"
        yield problem(params, "vnc_port", what, "set vnc_bind_address")
    if params["vnc_x509_path"] is not None and not params["vnc_tls"]:
        yield problem(params, "vnc_x509_path", "is set without TLS", "set vnc_tls = true")
    if params["vnc_x509_verify"] and params["vnc_x509_path"] is None:
        what = "is set without the certificate of an authority"
        yield problem(params, "vnc_x509_verify", what, "set vnc_x509_path")


@hv.hookimpl
def assess(params: hv.Params) -> Iterator[hv.Problem]:
    """Warnings about a display that other hosts can reach, and about parameters without effect."""
    bind = params["vnc_bind_address"]
    if bind is None:
        for key in ("vnc_tls", "vnc_password_file", "keymap"):
            if params[key]:
                yield problem(params, key, "has no effect without vnc_bind_address")
    elif not _is_unix(bind):
        tls = None if params["vnc_tls"] else "vnc_tls"
        guarded = params["vnc_password_file"] or params["vnc_x509_verify"]
        guarded_by = None if guarded else "vnc_password_file, or vnc_x509_verify = true"
        yield from open_to_all("vnc_bind_address", bind, tls=tls, guarded_by=guarded_by)


@hv.hookimpl
@hv.when_given("vnc_bind_address")
def plan(params: hv.Params) -> Iterator[Device]:
    """The display, if there is one."""
    if params["vnc_bind_address"] is not None:
        yield Vnc(
            bind=params["vnc_bind_address"],
            port=params["vnc_port"],
            tls=params["vnc_tls"],
            x509=params["vnc_x509_path"],
            verify_peer=params["vnc_x509_verify"],
            password_file=params["vnc_password_file"],
            keymap=params["keymap"],
        )


@hv.hookimpl
@when_planned(Vnc)
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """This QEMU must have TLS."""
    for vnc in spec.of(Vnc):
        if vnc.tls and not facts.has_type(vnc.creds_type):
            what = f"this QEMU ({facts.version}) was built without TLS, it has no {vnc.creds_type}"
            yield hv.Problem(path="params.vnc_tls", what=what, todo="install a QEMU with TLS, or set vnc_tls = false")


@hv.hookimpl
def render(spec: KvmSpec, facts: Facts, bindings: Bindings) -> Iterator[Opt]:
    """The display, or -display none. Family video has the graphics card."""
    displays = spec.of(Vnc)
    if not displays:
        yield Opt(name="-display", head="none", plain=True, why="no VNC display")
    by_secret = facts.has_option("vnc", "password-secret")
    how = password_how("vnc", by_secret=by_secret)
    for vnc in displays:
        if vnc.tls:
            creds: Props = {"id": _CREDS, "endpoint": "server"}
            if vnc.x509:
                creds |= {"dir": f"{bindings.guest_dir}/{_CREDS}", "verify-peer": vnc.verify_peer}
            keys = ("vnc_tls", "vnc_x509_path", "vnc_x509_verify")
            yield Opt(name="-object", head=vnc.creds_type, props=creds, params=keys)
        if vnc.password_file and by_secret:
            yield secret(PASSWORD, "vnc_password_file", bindings, how)
        props: Props = {
            "to": _AUTO_PORTS if vnc.port is None and not vnc.unix else None,
            "tls-creds": _CREDS if vnc.tls else None,
            "password-secret": PASSWORD if vnc.password_file and by_secret else None,
            "password": True if vnc.password_file and not by_secret else None,
        }
        yield Opt(
            name="-vnc",
            head=_where(vnc, bindings),
            props=props,
            params=("vnc_bind_address", "vnc_port", "vnc_tls", "vnc_password_file"),
            capability=how if vnc.password_file else "",
        )
        if vnc.keymap:
            yield Opt(name="-k", head=vnc.keymap, plain=True, params=("keymap",))


def _is_unix(bind: str) -> bool:
    return bind == _PRIVATE or bind.startswith("/")


def _where(vnc: Vnc, bindings: Bindings) -> str:
    if vnc.unix:
        # The guest's uid may make the socket only in the guest's directory. The path of the parameter is a link to it.
        return f"unix:{bindings.socket_dir}/{VNC}"
    bind = served_at(vnc.address, bindings)
    host = f"[{bind}]" if ":" in bind and not bind.startswith("{") else bind
    return f"{host}:{(vnc.port or _FIRST_PORT) - _FIRST_PORT}"
