"""A graphical display over SPICE: faster than VNC, with sound, a shared clipboard and its own encryption."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.display_server import (
    CERTIFICATES_HELP,
    address_at,
    certificates,
    ip_of,
    open_to_all,
    password,
    password_how,
    secret,
    served_at,
)
from hv_kvm.devices.shared.params import problem
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import HOST_NETWORK, Bindings
from hv_kvm.machine.spec import KvmSpec, PciDevice, when_planned
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "PASSWORD", "PORT", "Spice", "assess", "check", "plan", "render", "verify"]

PASSWORD: Final = "spice-password"  # noqa: S105 - the name of a file, not what is in it
PORT: Final = "spice"
_CERTS: Final = "spice-tls"
_FIRST_PORT: Final = 5930
_PASSWORD_BYTES: Final = 60  # SPICE_MAX_PASSWORD_LENGTH (spice-protocol, spice/protocol.h)
_WAN: Final = {"always": "Always.", "auto": "If the connection is slow.", "never": "Never."}

PARAMS: Final = hv.ParamGroup(
    "spice",
    hv.Param(
        "spice_bind",
        hv.address(interface=True),
        help="Where the node serves the SPICE display: an IP address, or a network interface for its address.",
        default_means="no SPICE display",
        example="127.0.0.1",
    ),
    hv.Param(
        "spice_port",
        hv.port(),
        help="The TCP port of the SPICE display.",
        default_means="the first free port from 5930, which hv info shows",
        example=5931,
    ),
    hv.Param(
        "spice_ip_version",
        hv.one_of({0: "The first IPv4 address, else the first IPv6 address.", 4: "IPv4 only.", 6: "IPv6 only."}),
        default=0,
        help="Which address of the network interface in spice_bind is used.",
        default_means="IPv4 if the interface has an IPv4 address, else IPv6",
        example=6,
    ),
    hv.Param(
        "spice_password_file",
        hv.file(),
        help="The file whose first line is the SPICE password, of at most 60 bytes.",
        default_means="no password: every client can connect",
        changes="launch",
        example="/etc/hvcore/web1.spice",
    ),
    hv.Param(
        "spice_image_compression",
        hv.one_of(
            {
                "auto_glz": "GLZ or QUIC, as SPICE decides for each image.",
                "auto_lz": "LZ or QUIC, as SPICE decides for each image.",
                "glz": "GLZ: LZ with a dictionary for several images.",
                "lz": "LZ: good for text and drawings.",
                "off": "No compression.",
                "quic": "QUIC: good for photographs.",
            }
        ),
        help="How images are compressed without loss.",
        default_means="auto_glz",
        example="quic",
    ),
    hv.Param(
        "spice_jpeg_wan_compression",
        hv.one_of(_WAN),
        help="Whether images are sent as JPEG, with loss.",
        default_means="auto",
        example="auto",
    ),
    hv.Param(
        "spice_zlib_glz_wan_compression",
        hv.one_of(_WAN),
        help="Whether images in GLZ are compressed again with zlib, without loss.",
        default_means="auto",
        example="auto",
    ),
    hv.Param(
        "spice_streaming_video",
        hv.one_of(
            {
                "all": "Each region that changes often.",
                "filter": "Regions that SPICE recognizes as video.",
                "off": "None.",
            }
        ),
        help="Which regions of the screen are sent as a video stream, with loss.",
        default_means="off",
        example="filter",
    ),
    hv.Param(
        "spice_playback_compression",
        hv.boolean(),
        default=True,
        help="Whether the guest's sound is compressed before it is sent.",
        example=False,
    ),
    hv.Param(
        "spice_use_tls",
        hv.boolean(),
        default=False,
        help="Whether the SPICE display is encrypted. Needs spice_x509_path.",
        example=True,
    ),
    hv.Param(
        "spice_x509_path",
        hv.directory(),
        help=CERTIFICATES_HELP,
        default_means="none, but spice_use_tls needs one",
        example="/etc/pki/spice",
    ),
    hv.Param(
        "spice_tls_ciphers",
        # A comma would end the value, and OpenSSL takes a colon all the same (ciphers(1)).
        hv.regexp("[A-Za-z0-9:+!@=_.-]+", "OpenSSL's list of ciphers, joined by ':'"),
        default="HIGH:-DES:-3DES:-EXPORT:-DH",
        help="The ciphers that TLS may use, in the form of openssl-ciphers(1).",
        example="HIGH",
    ),
    hv.Param(
        "spice_use_vdagent",
        hv.boolean(),
        default=True,
        help="Whether the guest has a channel for spice-vdagent: exact mouse position, shared clipboard, screen size.",
        example=False,
    ),
    help="A display for SPICE viewers. On Debian 13 and later it needs the package qemu-system-modules-spice.",
)
# Parameters that have no effect without spice_bind, except those that are on by default.
_NEED_BIND: Final = (
    *("spice_port", "spice_ip_version", "spice_password_file", "spice_image_compression"),
    *("spice_jpeg_wan_compression", "spice_zlib_glz_wan_compression", "spice_streaming_video", "spice_use_tls"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spice(PciDevice):
    """A display; its PCI slot is for the controller of the agent's channel. QEMU or SPICE decides values that are None."""

    bind: str
    port: int | None
    ip_version: int
    password_file: str | None
    x509: str | None
    ciphers: str
    image: str | None
    jpeg_wan: str | None
    zlib_glz_wan: str | None
    streaming: str | None
    playback: bool
    vdagent: bool

    @property
    def needs_slot(self) -> bool:
        """Whether there is a channel for the agent, which needs a PCI slot."""
        return self.vdagent

    on_board: ClassVar[bool] = True

    @property
    def address_served(self) -> str | hv.InterfaceAddress:
        """The IP address to serve on, or the resource that finds that of an interface."""
        return address_at(self.bind, "spice_bind", "spice.address", self.ip_version)

    @property
    def tcp_port(self) -> hv.TcpPort:
        """The port."""
        given_by = "params.spice_port"
        return hv.TcpPort(key=PORT, given_by=given_by, bind=self.address_served, port=self.port, first=_FIRST_PORT)

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """The node's network, the port, and copies of the password and the certificates for the guest's uid."""
        yield from (HOST_NETWORK, self.tcp_port)
        yield from password(PASSWORD, self.password_file, "spice_password_file", _PASSWORD_BYTES)
        yield from certificates(_CERTS, self.x509, "spice_x509_path")


DEVICES: Final = (Spice,)


@hv.hookimpl
@hv.when_given(*(param.key for param in PARAMS))
def check(params: hv.Params) -> Iterator[hv.Problem]:
    """Parameters need an address, a guest has one kind of display, and TLS needs certificates."""
    bind = params["spice_bind"]
    if bind is None:
        for key in _NEED_BIND:
            if params[key]:
                yield problem(params, key, "is set without an address to serve SPICE on", "set spice_bind")
    elif params["vnc_bind_address"] is not None:
        yield problem(params, "spice_bind", "a guest has VNC or SPICE, not both", "unset one of them")
    ip, version = None if bind is None else ip_of(bind), params["spice_ip_version"]
    if ip is not None and version not in (0, ip.version):
        what = f"does not fit spice_bind, which is an IPv{ip.version} address"
        yield problem(params, "spice_ip_version", what, f"set it to {ip.version} or 0")
    if params["spice_use_tls"] and params["spice_x509_path"] is None:
        yield problem(params, "spice_use_tls", "needs certificates", "set spice_x509_path")
    if params["spice_x509_path"] is not None and not params["spice_use_tls"]:
        yield problem(params, "spice_x509_path", "is set without TLS", "set spice_use_tls = true")


@hv.hookimpl
def assess(params: hv.Params) -> Iterator[hv.Problem]:
    """Warnings about a display that other hosts can reach."""
    bind = params["spice_bind"]
    if bind is not None:
        tls = None if params["spice_use_tls"] else "spice_use_tls"
        guarded_by = None if params["spice_password_file"] else "spice_password_file"
        yield from open_to_all("spice_bind", bind, tls=tls, guarded_by=guarded_by)


@hv.hookimpl
@hv.when_given("spice_bind")
def plan(params: hv.Params) -> Iterator[Spice]:
    """The display, if there is one."""
    if params["spice_bind"] is not None:
        yield Spice(
            bind=params["spice_bind"],
            port=params["spice_port"],
            ip_version=params["spice_ip_version"],
            password_file=params["spice_password_file"],
            x509=params["spice_x509_path"],
            ciphers=params["spice_tls_ciphers"],
            image=params["spice_image_compression"],
            jpeg_wan=params["spice_jpeg_wan_compression"],
            zlib_glz_wan=params["spice_zlib_glz_wan_compression"],
            streaming=params["spice_streaming_video"],
            playback=params["spice_playback_compression"],
            vdagent=params["spice_use_vdagent"],
        )


@hv.hookimpl
@when_planned(Spice)
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """This QEMU must be built with SPICE, and its module must be installed."""
    for spice in spec.of(Spice):
        if not facts.has_command("query-spice"):
            what = f"this QEMU ({facts.version}) was built without SPICE"
            yield hv.Problem(path="params.spice_bind", what=what, todo="install a QEMU with SPICE, or use VNC")
        elif not facts.has_type("chardev-spicevmc"):
            what = f"this QEMU ({facts.version}) has SPICE as a module, which is not installed"
            yield hv.Problem(path="params.spice_bind", what=what, todo="install it (Debian: qemu-system-modules-spice)")
        elif spice.password_file and not _can_secret(facts) and not facts.has_command("set_password"):
            what = f"this QEMU ({facts.version}) takes no password for SPICE"
            yield hv.Problem(path="params.spice_password_file", what=what, todo="unset it")


@hv.hookimpl
@when_planned(Spice)
def render(spec: KvmSpec, facts: Facts, bindings: Bindings) -> Iterator[Opt]:
    """The server, and the channel of the agent."""
    by_secret = _can_secret(facts)
    how = password_how("spice", by_secret=by_secret)
    for spice in spec.of(Spice):
        if spice.password_file and by_secret:
            yield secret(PASSWORD, "spice_password_file", bindings, how)
        ip = ip_of(spice.bind)
        family = ip.version if ip is not None else spice.ip_version
        props: Props = {
            "addr": served_at(spice.address_served, bindings),
            "tls-port" if spice.x509 else "port": bindings[spice.tcp_port],
            "ipv4": True if family == 4 else None,
            "ipv6": True if family == 6 else None,
            "disable-ticketing": None if spice.password_file else True,
            "password-secret": PASSWORD if spice.password_file and by_secret else None,
            "x509-dir": f"{bindings.guest_dir}/{_CERTS}" if spice.x509 else None,
            "tls-ciphers": spice.ciphers if spice.x509 else None,
            "image-compression": spice.image,
            "jpeg-wan-compression": spice.jpeg_wan,
            "zlib-glz-wan-compression": spice.zlib_glz_wan,
            "streaming-video": spice.streaming,
            "playback-compression": None if spice.playback else False,
            "agent-mouse": None if spice.vdagent else False,
        }
        keys = tuple(param.key for param in PARAMS if param.key != "spice_use_vdagent" or not spice.vdagent)
        yield Opt(name="-spice", props=props, params=keys, capability=how if spice.password_file else "")
        if spice.vdagent:
            yield from _agent(spice, spec)


def _agent(spice: Spice, spec: KvmSpec) -> Iterator[Opt]:
    keys = ("spice_use_vdagent",)
    props: Props = {"id": "spice-agent-bus", **spice.address(spec)}
    yield Opt(name="-device", head="virtio-serial-pci", props=props, params=keys)
    yield Opt(name="-chardev", head="spicevmc", props={"id": "spice-agent", "name": "vdagent"}, params=keys)
    port: Props = {"id": "spice-agent-port", "bus": "spice-agent-bus.0", "chardev": "spice-agent"}
    port["name"] = "com.redhat.spice.0"
    yield Opt(name="-device", head="virtserialport", props=port, params=keys)


def _can_secret(facts: Facts) -> bool:
    # QEMU does not list the options of a module. VNC and SPICE got password-secret in the same release (6.0).
    option = "spice" if facts.has_option("spice") else "vnc"
    return facts.has_option(option, "password-secret")
