"""The resources of the node that an instance holds while it runs, as values: a uid, a disk, a socket, a port. Pure.

A driver derives resources from its spec; they are never saved. A `hvcore.resources.kind.ResourceKind` acquires, shows and
releases the resources of one class.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any, Generic, TypeVar

from hvcore.frozen import dataclass
from hvcore.model.limits import NO_LIMITS, GroupLimits
from hvcore.model.sandbox import AsUser

__all__ = [
    "CharacterDevice",
    "ControlGroup",
    "DiskClaim",
    "Identity",
    "InstanceProcess",
    "InterfaceAddress",
    "Link",
    "Mounts",
    "OutputHistory",
    "Program",
    "Resource",
    "StateDirectory",
    "TcpPort",
    "UidRange",
    "UniqueValue",
    "UnixSocket",
]

H = TypeVar("H")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource(Generic[H]):
    """Base of all resources. ``H`` is the type of the handle that the instance gets for it.

    ``key`` names the resource within its instance, in the ledger and in the node's reservations. ``given_by`` is the path
    of the parameter or field that needs it (``disks[0].path``), for messages.
    """

    key: str
    given_by: str = ""

    @property
    def where(self) -> str:
        """Its name in messages: the parameter that needs it, else its key."""
        return self.given_by or self.key

    def needs(self) -> tuple[Resource[Any], ...]:
        """The resources that must be acquired before this one."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity(Resource[AsUser | None]):
    """The user that a confined process runs as: ``user`` of the node, else a uid of the pool that no other process has.

    The handle is None when the process keeps the caller's uid, as at every level of confinement but strict. With
    ``at_any_level``, root takes a uid at every level.
    """

    user: str | None = None
    at_any_level: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UidRange(Resource[range]):
    """65536 uids of the node that no other instance has, for the users inside an instance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskClaim(Resource[tuple[str, ...]]):
    """The right to be the only user of a disk or directory on the node, or one of its readers.

    ``path`` may also be the URI of a network disk. The handle has the descriptors that hold the claim; the launched
    program inherits them. ``lock`` False reserves the disk in this run directory only: for a file that its program locks
    as a whole, which our lock would prevent.
    """

    path: str
    write: bool
    lock: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounts(Resource[None]):
    """All mounts of a driver below the instance's directory. ``disk`` must be unused after they are unmounted.

    ``shared``: other instances may read that disk too, and then it is still in use.
    """

    disk: str | None = None
    shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixSocket(Resource[str]):
    """A listening unix socket in the instance's directory, named by its key. The handle is its descriptor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceAddress(Resource[str]):
    """The address of a network interface of the node; ``family`` is 4 or 6, or 0 for the first that it has."""

    interface: str
    family: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpPort(Resource[str]):
    """A TCP port at ``bind``, an address or an `InterfaceAddress`: ``port``, or with None the first free from ``first`` on.

    With port 0 the program itself picks one, and only the address is checked before a start.
    The handle is the port's number as text. The record's bindings keep address and port under the key.
    """

    bind: str | InterfaceAddress
    port: int | None
    first: int

    def needs(self) -> tuple[Resource[Any], ...]:
        """The interface whose address the port is at, if any."""
        return () if isinstance(self.bind, str) else (self.bind,)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlGroup(Resource[bool]):
    """A control group with ``limits``. The handle is False when the node has no control groups and no limit is set."""

    limits: GroupLimits = field(default=NO_LIMITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDirectory(Resource[int]):
    """The directory in which a program keeps its state from one start to the next; while it runs, ``owner`` owns it.

    The instance claims it by its file ``lock``. It may hold only that file, and files whose names begin with one of
    ``keeps``. The handle is a descriptor of the directory.
    """

    path: str
    package: str
    owner: Identity
    lock: str
    keeps: tuple[str, ...]

    def needs(self) -> tuple[Resource[Any], ...]:
        """The owner of the directory while the program runs."""
        return (self.owner,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program(Resource[str]):
    """A program beside the instance's own, connected to it by a pair of sockets. It ends with the instance.

    The handle is the instance's end of the pair. In ``arguments``, ``{fd}`` means the program's end and ``{state}`` its
    state directory. ``package`` is the Debian package of ``binary``. A program without a ``state`` directory has an
    ``owner``. ``seccomp`` says that the program installs a filter itself, which is then checked.

    The sandbox of the program has the node's network with ``network``, a /proc with ``proc``, the files ``reads`` of the
    node, and the ``empty`` directories. ``own_sandbox`` says that the program makes a user namespace and installs its
    filter when it is ready: the start waits for that.

    A program that makes a network namespace has ``own_rights``: capabilities in its user namespace. It gets the character
    ``devices`` of the node. With ``on_stdin`` its stdin is its end of the connection.

    With ``pipe``, a pipe from the instance to the program replaces the pair of sockets. ``output`` is a file in the
    instance's directory, 0600, which the program gets open for reading and appending, as ``{output}``. ``also`` is
    another such file, as ``{also}``.

    What the program prints goes into its log in the instance's directory. ``largest_file_bytes`` bounds the log, and each
    other file that it writes to: a write beyond that fails, and the program goes on. Default: no bound.
    """

    binary: str
    package: str
    arguments: tuple[str, ...]
    state: StateDirectory | None = None
    owner: Identity | None = None
    seccomp: bool = False
    network: bool = False
    proc: bool = False
    reads: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    own_sandbox: bool = False
    own_rights: bool = False
    devices: tuple[str, ...] = ()
    on_stdin: bool = False
    pipe: bool = False
    output: str | None = None
    also: str | None = None
    largest_file_bytes: int | None = None

    @property
    def user(self) -> Identity:
        """The user that the program runs as: its own, or the owner of its directory."""
        found = self.owner if self.state is None else self.state.owner
        if found is None:
            msg = f"program {self.key!r}: has neither a state directory nor an owner"
            raise ValueError(msg)
        return found

    def needs(self) -> tuple[Resource[Any], ...]:
        """Its user, and its directory if it has one."""
        return (self.user,) if self.state is None else (self.user, self.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputHistory(Resource[str]):
    """The end of everything that the instance writes to a pipe, in ``file`` of its directory, which is 0600.

    Without ``file`` it only bounds ``also``: the instance does not use the pipe, and holds it as long as it runs.

    A small program beside the instance reads the pipe, as ``owner``. The file keeps at least the last ``keep_bytes``. Its
    space is bounded, however much is written. `hvcore.log_pieces` reads it. The handle is the writing end of the pipe.

    ``also`` names another file in the directory, to which the instance appends itself, such as its log. The program keeps
    as much of its end, and frees what is older every five seconds, or every tenth of a second while the file grows.
    """

    owner: Identity
    file: str | None = None
    keep_bytes: int = 1 << 20
    also: str | None = None

    def needs(self) -> tuple[Resource[Any], ...]:
        """The user of the program."""
        return (self.owner,)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceProcess(Resource[None]):
    """The process of the instance. `Job.launch` adds it to the ledger; any other launch must acquire it before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link(Resource[None]):
    """A symbolic link at ``path`` to the file ``target`` in the instance's directory.

    ``name`` is the name of the link if ``path`` is a directory; empty: a directory is refused.
    """

    path: str
    target: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CharacterDevice(Resource[str]):
    """A character device of the node, opened for reading and writing. The handle is its descriptor."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UniqueValue(Resource[int]):
    """A number that only one instance of the node has, such as a vsock CID.

    ``space`` names the numbers, in letters, digits and ``-``: ``vsock-cid``. Plugins that use the same numbers must use
    the same name, or two instances get one number. ``value`` is the configured number; None takes the first free one from
    ``first`` to ``last``.
    """

    space: str
    value: int | None
    first: int
    last: int
