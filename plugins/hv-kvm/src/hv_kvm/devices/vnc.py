"""A graphical display over VNC, without encryption."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hv_kvm.bindings import Bindings
from hv_kvm.facts import Facts
from hv_kvm.option import Opt
from hv_kvm.spec import Device, KvmSpec
from hvcore import Instance, Param, ParamGroup, Params, Problem, address_or_path, hookimpl, port

__all__ = ["PARAMS", "SOCKET", "Vnc", "check", "params", "plan", "render", "verify"]

SOCKET: Final = "vnc.sock"
_FIRST_PORT: Final = 5900
_AUTO_PORTS: Final = 1000

PARAMS: Final = ParamGroup(
    "vnc",
    Param(
        "vnc_bind_address",
        address_or_path(),
        help="Where the display is served: an IP address of the node, or the path of a unix socket. Unset: no display.",
        example="127.0.0.1",
    ),
    Param(
        "vnc_port",
        port(minimum=_FIRST_PORT),
        help="The TCP port of the display. Unset: the first free one from 5900; hv info shows it.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vnc(Device):
    """A display and where it is served. ``port`` None is for QEMU to pick; a path in ``bind`` is a unix socket."""

    bind: str
    port: int | None

    @property
    def unix(self) -> bool:
        """Whether it is a unix socket."""
        return self.bind.startswith("/")

    def needs_host_network(self) -> bool:
        """TCP is served on the node's own addresses."""
        return not self.unix


@hookimpl
def params() -> ParamGroup:
    """The family's parameters."""
    return PARAMS


@hookimpl
def check(params: Params) -> Iterator[Problem]:
    """A port needs an address."""
    bind = params["vnc_bind_address"]
    if params["vnc_port"] is not None and (bind is None or bind.startswith("/")):
        what = "is set without an address to serve it on"
        yield Problem(path="params.vnc_port", what=what, got=str(params["vnc_port"]), todo="set vnc_bind_address")


@hookimpl
def plan(instance: Instance, params: Params) -> Iterator[Device]:
    """One display, or none."""
    del instance
    if params["vnc_bind_address"] is not None:
        yield Vnc(bind=params["vnc_bind_address"], port=params["vnc_port"])


@hookimpl
def verify(spec: KvmSpec, facts: Facts) -> Iterator[Problem]:
    """There has to be a graphics card for it."""
    if spec.of(Vnc) and "VGA" not in facts.types:
        yield Problem(path="params.vnc_bind_address", what=f"this QEMU ({facts.version}) has no VGA device")


@hookimpl
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """The display and a graphics card, or none of both."""
    displays = spec.of(Vnc)
    if not displays:
        yield Opt(name="-display", head="none", plain=True, why="no display was asked for")
    for vnc in displays:
        yield Opt(name="-vnc", head=_where(vnc, bindings), props=_more(vnc), params=("vnc_bind_address", "vnc_port"))
        place = {"bus": "pcie.0" if spec.q35 else "pci.0", "addr": "0x2" if not spec.q35 else "0x1"}
        yield Opt(name="-device", head="VGA", props={"id": "vga", **place}, params=("vnc_bind_address",))


def _where(vnc: Vnc, bindings: Bindings) -> str:
    if vnc.unix:
        # In the instance's own directory: the guest's uid may make it there, and only there. The path links to it.
        return f"unix:{bindings.socket_dir}/{SOCKET}"
    host = f"[{vnc.bind}]" if ":" in vnc.bind else vnc.bind
    return f"{host}:{(vnc.port or _FIRST_PORT) - _FIRST_PORT}"


def _more(vnc: Vnc) -> dict[str, bool | int | str | None]:
    return {"to": _AUTO_PORTS if vnc.port is None and not vnc.unix else None}
