"""QEMU's block nodes: for an open file, and for a network disk that a URI names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from posixpath import normpath
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import GuestFile
from hvcore.plugin import dataclass

__all__ = ["Gluster", "Rbd", "Server", "descriptors", "file_props", "network_props", "parse_uri", "read_only_image"]

_GLUSTER_PORT: Final = 24007
_CEPH_PORT: Final = 6789


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server of a network disk: an address and a port, or the path of a Unix socket."""

    host: str | None = None
    port: int | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rbd:
    """A Ceph image. ``conf`` is a file of the node; ``user`` the Ceph user without ``client.``."""

    pool: str
    image: str
    namespace: str | None = None
    snapshot: str | None = None
    conf: str | None = None
    user: str | None = None
    servers: tuple[Server, ...] = ()

    @property
    def driver(self) -> str:
        """The name of QEMU's block driver."""
        return "rbd"

    @property
    def canonical(self) -> str:
        """One name for the image, from any of its URIs. The cluster is not part of it, because a cluster has many names."""
        names = [quote(name, safe="") for name in (self.pool, self.namespace, self.image) if name is not None]
        return f"rbd:{'/'.join(names)}" + (f"@{quote(self.snapshot, safe='')}" if self.snapshot else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gluster:
    """A file in a Gluster volume, by a path without the first slash."""

    volume: str
    path: str
    servers: tuple[Server, ...]

    @property
    def driver(self) -> str:
        """The name of QEMU's block driver."""
        return "gluster"

    @property
    def canonical(self) -> str:
        """One name for the file, by any server of the volume."""
        return f"gluster:{quote(self.volume, safe='')}{normpath(f'/./{self.path}')}"


NetworkDisk = Rbd | Gluster


def parse_uri(uri: str) -> NetworkDisk:
    """The disk that a URI of the forms below names. Raises ValueError with what is wrong, as ``is not ...``.

    ``rbd:POOL/[NAMESPACE/]IMAGE[@SNAPSHOT][:id=USER][:conf=FILE][:mon_host=HOST;HOST]``, with a backslash before
    each ``: @ / ;`` that is part of a name; ``gluster[+tcp]://HOST[:PORT]/VOLUME/PATH`` and
    ``gluster+unix:///VOLUME/PATH?socket=FILE``.
    """
    scheme, _, rest = uri.partition(":")
    if scheme == "rbd":
        return _rbd(rest)
    if scheme in ("gluster", "gluster+tcp", "gluster+unix"):
        return _gluster(uri, unix=scheme.endswith("unix"))
    if scheme == "gluster+rdma":
        raise ValueError("has the transport rdma, which QEMU has removed; use tcp")
    raise ValueError("is not a known network disk; known are rbd: and gluster://")


def _rbd(rest: str) -> Rbd:
    where, *options = _split(rest, ":")
    name, *snapshot = _split(where, "@")
    names = [_plain(part) for part in _split(name, "/")]
    if len(names) not in (2, 3) or not all(names) or len(snapshot) > 1 or not all(snapshot):
        raise ValueError("is not of the form rbd:POOL/IMAGE or rbd:POOL/NAMESPACE/IMAGE")
    known = _rbd_options(options)
    conf = known.get("conf")
    if conf is not None and not conf.startswith("/"):
        raise ValueError("has a conf that is not an absolute path")
    return Rbd(
        pool=names[0],
        namespace=names[1] if len(names) == 3 else None,
        image=names[-1],
        snapshot=_plain(snapshot[0]) if snapshot else None,
        conf=conf,
        user=known.get("id"),
        servers=tuple(_server(host, _CEPH_PORT) for host in re.split("[;,]", known.get("mon_host", "")) if host),
    )


def _rbd_options(options: list[str]) -> dict[str, str]:
    known: dict[str, str] = {}
    for option in options:
        key, equals, value = _plain(option).partition("=")
        if key not in ("id", "conf", "mon_host") or not equals or not value or key in known:
            raise ValueError(f"has an option {key[:32]!r} that is not one of id=, conf= and mon_host=, each once")
        known[key] = value
    return known


def _split(text: str, separator: str) -> list[str]:
    """The parts between separators that have no backslash before them, escapes kept."""
    parts = [""]
    for token in re.findall(r"\\.|[^\\]|\\$", text):
        if token == separator:
            parts.append("")
        else:
            parts[-1] += token
    return parts


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _server(text: str, default_port: int) -> Server:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?", text)
    if found is None:
        raise ValueError(f"has a server {text[:64]!r} that is not HOST or HOST:PORT")
    port = int(found[3] or default_port)
    if not 0 < port < 65536:
        raise ValueError(f"has a port {port} that is not from 1 to 65535")
    return Server(host=found[1] or found[2], port=port)


def _gluster(uri: str, *, unix: bool) -> Gluster:
    parts = urlsplit(uri)
    volume, _, path = unquote(parts.path).lstrip("/").partition("/")
    if not volume or not path:
        raise ValueError("is not of the form gluster://HOST/VOLUME/PATH")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.fragment or set(query) - ({"socket"} if unix else set()):
        raise ValueError("has more than VOLUME/PATH and, for gluster+unix, ?socket=FILE")
    if not unix:
        return Gluster(volume=volume, path=path, servers=(_server(parts.netloc, _GLUSTER_PORT),))
    socket = query.get("socket", "")
    if parts.netloc or not socket.startswith("/"):
        raise ValueError("is not of the form gluster+unix:///VOLUME/PATH?socket=/FILE")
    return Gluster(volume=volume, path=path, servers=(Server(path=socket),))


def descriptors(opened: GuestFile, path: str) -> Iterator[Opt]:
    """The descriptors of one open file, as the fdset that its block node opens, each with the name of its resource.

    The claim comes first, because QEMU uses the last descriptor with the right mode. The claim is in the set, because
    QEMU keeps a set as long as a node has it open, and closes all of it with `remove-fd`.
    """
    for fd in opened.claims:
        props: Props = {"fd": fd, "set": opened.set_id, "opaque": f"{opened.name}.claim"}
        yield Opt(name="-add-fd", props=props, why=f"the claim on {path}")
    for fd in opened.fds:
        props = {"fd": fd, "set": opened.set_id, "opaque": opened.name}
        yield Opt(name="-add-fd", props=props, why=f"{path}, opened before QEMU starts")


def file_props(opened: GuestFile, *, aio: str | None = None) -> Props:
    """The properties of the protocol node for an open file or device."""
    driver = "host_device" if opened.block_device else "file"
    return {"file.driver": driver, "file.filename": opened.path, "file.aio": aio}


def read_only_image(name: str, lower: Props, params: tuple[str, ...]) -> Opt:
    """The block node of a raw image that is read-only."""
    props: Props = {"driver": "raw", "node-name": name, "read-only": True, **lower}
    return Opt(name="-blockdev", props=props, params=params)


def network_props(source: NetworkDisk) -> Props:
    """The properties of the protocol node for a network disk."""
    if isinstance(source, Gluster):
        props: Props = {"file.driver": "gluster", "file.volume": source.volume, "file.path": source.path}
    else:
        props = {
            "file.driver": "rbd",
            "file.pool": source.pool,
            "file.namespace": source.namespace,
            "file.image": source.image,
            "file.snapshot": source.snapshot,
            "file.conf": source.conf,
            "file.user": source.user,
        }
    for index, server in enumerate(source.servers):
        prefix = f"file.server.{index}"
        if isinstance(source, Gluster):  # which takes a socket address of any type, and rbd only host and port
            props[f"{prefix}.type"] = "unix" if server.path is not None else "inet"
        props |= {
            f"{prefix}.host": server.host,
            f"{prefix}.port": None if server.port is None else str(server.port),
            f"{prefix}.path": server.path,
        }
    return props
