"""Between the halves of a reboot nobody else gets the ports, uids, numbers and links of the instance."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sleeper import Sleeper

import hvcore.plugin as hv
from hvcore import Instance, State
from hvcore.deadline import Deadline
from hvcore.host import kept_ports
from hvcore.host.processes.process import wait_readable
from hvcore.host.reservations import Reservations
from hvcore.model.network.guest_network import PortForward
from hvcore.operations.context import Context
from hvcore.operations.inspection.observe import observed
from hvcore.operations.lifecycle.reboot import reboot
from hvcore.operations.lifecycle.start import start
from hvcore.operations.lifecycle.stop import stop
from hvcore.params.network_types import forward_of
from hvcore.plugins.loaded_driver import LoadedDriver
from hvcore.state.store import Store

pytestmark = [
    pytest.mark.heavy,  # real sockets and processes, and a whole reboot for each
    pytest.mark.skipif(os.geteuid() != 0, reason="only root gives uids and locks numbers on the node"),
]

SERVER = """
import os, select, socket, sys
held = []
for text in sys.argv[2:]:
    kind = socket.SOCK_DGRAM if text.endswith("/udp") else socket.SOCK_STREAM
    one = socket.socket(type=kind)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("127.0.0.1", int(text.partition("/")[0])))
    if kind == socket.SOCK_STREAM:
        one.listen()
    held.append(one)
os.write(int(sys.argv[1]), b"ready")
while True:
    for one in select.select([one for one in held if one.type == socket.SOCK_STREAM], [], [])[0]:
        held.append(one.accept()[0])
        try:
            held[-1].send(b"!")
        except OSError:  # the client is gone
            pass
        held.pop().close()
"""


@dataclass(frozen=True)
class Wanted:
    """A guest that serves on two TCP ports and a UDP port, with a uid, a number, and a link to a file of its own."""

    port: int
    tcp: int
    udp: int
    link: str

    @property
    def resources(self) -> tuple[hv.Resource[Any], ...]:
        return (
            hv.Identity(key="uid"),
            hv.UniqueValue(key="cid", space="test-reboot", value=None, first=FIRST, last=FIRST + 1),
            hv.TcpPort(key="vnc", given_by="params.port", bind="127.0.0.1", port=self.port, first=0),
            PortForward(key="net0.tcp", forward=forward_of(f"127.0.0.1:{self.tcp}:22"), program=""),
            PortForward(key="net0.udp", forward=forward_of(f"127.0.0.1:{self.udp}:53/udp"), program=""),
            hv.Link(key="link", path=self.link, target="guest.sock"),
        )


FIRST = 1000 + os.getpid() % 100_000  # no other test of the node uses these


class Served(Sleeper):
    """``wanted`` is what each of its guests asks for: those who try it get into each other's way."""

    wanted: ClassVar[Wanted]
    fails: ClassVar[list[str]] = []

    def plan(self, instance: hv.Instance, params: hv.Params) -> Wanted:  # type: ignore[override]
        return self.wanted

    def verify(self, spec: Wanted, host: hv.Host) -> Iterable[hv.Problem]:  # type: ignore[override]
        return self._hooks.kinds.problems(spec.resources, hv.Site(name="web1", host=host, level=hv.Level.STRICT))

    def start(self, spec: Wanted, job: hv.Job) -> None:  # type: ignore[override]
        if self.fails:
            raise hv.OperationError(f"{job.name}: fails on purpose")
        handles = job.acquire(*spec.resources, level=hv.Level.STRICT)
        ports = (handles[spec.resources[2]], handles[spec.resources[3]], f"{handles[spec.resources[4]]}/udp")
        ready, tell = os.pipe()
        argv = (sys.executable, "-c", SERVER, str(tell), *map(str, ports))
        child = self.launch(job, argv, tell)
        os.close(tell)
        process = child.process()
        assert process is not None
        job.started(process, child.monitor())
        child.close()
        assert wait_readable(ready, 20)
        assert os.read(ready, 5) == b"ready"
        os.close(ready)

    @staticmethod
    def launch(job: hv.Job, argv: tuple[str, ...], fd: int) -> hv.Child:
        return job.launch(hv.Command(argv=argv, sandbox=None, fds=(fd,)))


class Between:
    """An extension that acts between the halves of a reboot."""

    def __init__(self) -> None:
        self.acts: list[Callable[[], None]] = []

    @hv.hookimpl
    def after_stop(self) -> None:
        while self.acts:
            self.acts.pop()()


class World:
    def __init__(self, load: Callable[..., LoadedDriver], run_dir: Path, tmp_path: Path) -> None:
        between = Between()
        self.acts, self.fails, self.link = between.acts, list[str](), tmp_path / "vnc.sock"
        self.ports = Wanted(port=_free(), tcp=_free(), udp=_free(socket.SOCK_DGRAM), link=str(self.link))
        self.driver = type("Served", (Served,), {"wanted": self.ports, "fails": self.fails})
        self.loaded = load(self.driver, between=between)
        self.run_dir, elsewhere = run_dir, run_dir.parent / "elsewhere"
        elsewhere.mkdir(mode=0o700)
        self.node, self.other = self.context(run_dir), self.context(elsewhere)

    def context(self, run_dir: Path) -> Context:
        first = 1_881_000_000 + os.getpid()
        host = hv.Host(run_dir=run_dir, privileged=True, uid_pool=range(first, first + 1))
        return Context(host=host, store=Store(run_dir), driver=lambda _: self.loaded, progress=lambda _: None)

    def start(self, node: Context, name: str = "web1") -> Any:
        instance = Instance(name=name, driver="fake")
        return start(node, self.loaded, instance, paused=False, deadline=Deadline(20))

    def reboot(self) -> Any:
        return reboot(self.node, "web1", force=True, deadline=Deadline(20), start_deadline=Deadline(20))

    def stop(self, node: Context, name: str = "web1") -> None:
        stop(node, name, force=True, deadline=Deadline(20))

    @property
    def reserved(self) -> dict[str, dict[str, str]]:
        root = self.run_dir / "reservations"
        found = {kind: Reservations(root / kind) for kind in ("uid", "value-test-reboot")}
        return {kind: {key: each.target(key) or "" for key in each.keys()} for kind, each in found.items()}  # noqa: SIM118

    def thief(self, kind: str, node: Context) -> None:
        """Try to get one of the things, as an instance of that node."""
        (resource,) = (one for one in self.ports.resources if one.key == kind)
        context = self.context(node.host.run_dir)
        record = _record(context, self.loaded)
        context.store.create("thief")
        job = context.job(record, Deadline(10), self.loaded)
        try:
            found = list(self.loaded.hooks.kinds.problems([resource], job.held.site))
            if found:
                raise hv.OperationError(str(found[0]))
            handle = job.acquire(resource, level=hv.Level.STRICT)[resource]
            if kind == "cid" and handle == FIRST:
                raise AssertionError(kind)
        finally:
            job.release()
            job.held.close()
            context.store.remove("thief")


def _record(context: Context, loaded: LoadedDriver) -> hv.Record:
    from hvcore.host.processes.process import boot_id
    from hvcore.model.record import Phase

    instance = Instance(name="thief", driver="fake")
    return hv.Record(
        name="thief", driver=loaded.name, phase=Phase.STARTING, boot_id=boot_id(), instance=instance, spec={}
    )


def _free(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(type=kind) as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


@pytest.fixture
def world(load: Callable[..., LoadedDriver], run_dir: Path, tmp_path: Path) -> Iterator[World]:
    made = World(load, run_dir, tmp_path)
    yield made
    made.acts.clear()
    made.fails.clear()
    for node in (made.node, made.other):
        for name in node.store.names():
            made.stop(node, name)


@pytest.mark.parametrize("where", ["node", "other"])
@pytest.mark.parametrize("kind", ["uid", "vnc", "net0.tcp", "net0.udp", "link"])
def test_nobody_else_gets_it_between_the_halves(kind: str, where: str, world: World) -> None:
    world.start(world.node)
    tried = []

    def attempt() -> None:
        assert observed(world.node, "web1").record is None
        with pytest.raises(hv.HvError):
            world.thief(kind, getattr(world, where))
        tried.append(kind)

    world.acts.append(attempt)
    assert world.reboot().state is State.RUNNING
    assert tried == [kind]


@pytest.mark.parametrize("where", ["node", "other"])
def test_its_number_stays_its_own(where: str, world: World) -> None:
    world.start(world.node)
    before = world.reserved
    world.acts.append(lambda: world.thief("cid", getattr(world, where)))
    assert world.reboot().state is State.RUNNING
    assert world.reserved == before
    assert list(before["value-test-reboot"]) == [str(FIRST)]
    # The numbers of descriptors that the reboot has closed are free again: a child keeps the files that have them now.
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
    child = os.fork()
    if child == 0:
        lost = 0
        for fd in opened:
            try:
                os.fstat(fd)
            except OSError:
                lost += 1
        os._exit(lost)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for fd in opened:
        os.close(fd)


def test_a_client_finds_the_same_ports_and_link_after_it(world: World) -> None:
    world.start(world.node)
    client = socket.create_connection(("127.0.0.1", world.ports.tcp))
    for _ in range(2):
        assert world.reboot().state is State.RUNNING
        for port in (world.ports.port, world.ports.tcp):
            socket.create_connection(("127.0.0.1", port)).close()
        assert os.readlink(world.link) == str(world.run_dir / "instances/web1/guest.sock")
    client.close()
    world.stop(world.node)
    assert not world.link.is_symlink()
    assert world.reserved == {"uid": {}, "value-test-reboot": {}}


@pytest.mark.parametrize("kind", ["vnc", "net0.tcp", "net0.udp"])
def test_nobody_else_gets_a_port_while_the_programs_of_the_start_are_launched(kind: str, world: World) -> None:
    world.start(world.node)
    tried: list[str] = []
    launch = Served.launch

    def late(job: hv.Job, argv: tuple[str, ...], fd: int) -> hv.Child:
        job.host.between.ports.let_listen()  # type: ignore[union-attr]
        with pytest.raises(hv.HvError):
            world.thief(kind, world.other)
        tried.append(kind)
        return launch(job, argv, fd)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.driver, "launch", staticmethod(late))
        assert world.reboot().state is State.RUNNING
    assert tried == [kind]


def test_a_port_with_connections_that_have_just_ended_is_free(world: World) -> None:
    """The kernel remembers a connection for a minute where it was closed first: at the guest that was stopped."""
    world.start(world.node)
    with ExitStack() as clients:
        for port in (world.ports.tcp, world.ports.port):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            assert client.recv(1) == b"!"  # accepted
        world.stop(world.node)
        assert world.start(world.node).changed
    with pytest.raises(hv.HvError):
        world.thief("net0.tcp", world.other)


def test_a_second_half_that_fails_gives_everything_back(world: World) -> None:
    world.start(world.node)
    world.acts.append(lambda: world.fails.append("now"))
    with pytest.raises(hv.OperationError, match="fails on purpose"):
        world.reboot()
    assert world.reserved == {"uid": {}, "value-test-reboot": {}}
    assert not world.link.is_symlink()
    world.fails.clear()
    assert world.start(world.other, "another").changed
    world.stop(world.other, "another")
    assert world.reboot().state is State.RUNNING


def test_a_stop_that_fails_leaves_everything_as_it_was(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.start(world.node)
    before = world.reserved

    def refuse(*_: Any, **__: Any) -> str:
        raise hv.OperationError("web1: does not stop")

    with monkeypatch.context() as patch:
        patch.setattr(world.driver, "stop", refuse)
        with pytest.raises(hv.OperationError, match="does not stop"):
            reboot(world.node, "web1", force=False, deadline=Deadline(20), start_deadline=Deadline(20))
    assert world.reserved == before
    assert os.readlink(world.link) == str(world.run_dir / "instances/web1/guest.sock")
    socket.create_connection(("127.0.0.1", world.ports.tcp)).close()  # it still listens


def test_sockets_that_cannot_be_copied_are_bound_right_after_the_stop(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a kernel without pidfd_getfd(2), or for a caller who may not trace the guest."""
    world.start(world.node)
    monkeypatch.setattr(kept_ports, "copied_fds", lambda *_: ())
    assert world.reboot().state is State.RUNNING
    socket.create_connection(("127.0.0.1", world.ports.tcp)).close()


def test_a_reboot_that_is_killed_between_its_halves_keeps_nothing_for_ever(world: World, in_child: Any) -> None:
    world.start(world.node)

    def killed() -> None:
        world.acts.append(lambda: os.kill(os.getpid(), 9))
        world.reboot()

    assert in_child(killed) == 9
    world.stop(world.node)
    assert world.reserved == {"uid": {}, "value-test-reboot": {}}
    assert not world.link.is_symlink()
    assert world.start(world.other, "another").changed
