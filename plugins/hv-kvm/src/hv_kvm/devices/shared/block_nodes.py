"""Block nodes: what QEMU reads an image from. Shared by disks, cdroms, floppies and firmware."""

from __future__ import annotations

from collections.abc import Iterator

from hv_kvm.devices.shared.network_disk import Gluster, NetworkDisk, Rbd, Server
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import GuestFile

__all__ = ["descriptors", "file_props", "network_props", "read_only_image"]


def descriptors(opened: GuestFile, path: str) -> Iterator[Opt]:
    """The descriptors of one open file, as the fdset that its block node opens, each with the name of its resource.

    The claim comes first: QEMU takes the descriptor that was added last of those with the right mode. It is in the set
    because QEMU keeps a set for as long as a node has it open, and closes all of it with `remove-fd`.
    """
    for fd in opened.claims:
        props: Props = {"fd": fd, "set": opened.set_id, "opaque": f"{opened.name}.claim"}
        yield Opt(name="-add-fd", props=props, why=f"the claim on {path}")
    for fd in opened.fds:
        props = {"fd": fd, "set": opened.set_id, "opaque": opened.name}
        yield Opt(name="-add-fd", props=props, why=f"{path}, opened before")


def file_props(opened: GuestFile, *, aio: str | None = None) -> Props:
    """The properties of the lower node for an open file or device."""
    driver = "host_device" if opened.block_device else "file"
    return {"file.driver": driver, "file.filename": opened.path, "file.aio": aio}


def read_only_image(name: str, lower: Props, params: tuple[str, ...], why: str = "") -> Opt:
    """The node of a raw image that is only ever read."""
    props: Props = {"driver": "raw", "node-name": name, "read-only": True, **lower}
    return Opt(name="-blockdev", props=props, params=params, why=why)


def network_props(source: NetworkDisk) -> Props:
    """The properties of the lower node for a disk over the network."""
    if isinstance(source, Rbd):
        return _rbd(source)
    return _gluster(source)


def _rbd(source: Rbd) -> Props:
    return {
        "file.driver": "rbd",
        "file.pool": source.pool,
        "file.namespace": source.namespace,
        "file.image": source.image,
        "file.snapshot": source.snapshot,
        "file.conf": source.conf,
        "file.user": source.user,
        **_servers(source.servers, typed=False),
    }


def _gluster(source: Gluster) -> Props:
    props: Props = {"file.driver": "gluster", "file.volume": source.volume, "file.path": source.path}
    return props | _servers(source.servers, typed=True)


def _servers(servers: tuple[Server, ...], *, typed: bool) -> Props:
    props: Props = {}
    for index, server in enumerate(servers):
        prefix = f"file.server.{index}"
        if typed:  # gluster takes a socket address of any type, rbd only host and port
            props[f"{prefix}.type"] = "unix" if server.path is not None else "inet"
        props |= {
            f"{prefix}.host": server.host,
            f"{prefix}.port": None if server.port is None else str(server.port),
            f"{prefix}.path": server.path,
        }
    return props
