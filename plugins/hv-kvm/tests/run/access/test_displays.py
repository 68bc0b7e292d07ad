"""Displays from the view of a client: encryption, passwords, addresses; and that no secret can be seen."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from pki import make_certificates
from world import PATIENCE_S

import hvcore
from hv_kvm.devices.vnc import PASSWORD
from hv_kvm.paths import GuestPaths
from hv_kvm.qmp import connect
from hvcore import ConsoleKind, DeadlineError, InputError, OperationError, StateError
from hvcore.host.ports import reserve_port
from hvcore.model.record import Phase

pytestmark = pytest.mark.live

SECRET: Final = "hunt,r=2"  # 8 bytes, and a comma that would end a value
VNC_AUTH, VENCRYPT = 2, 19
TLS_NONE, X509_NONE = 257, 260


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine")
    return make_certificates(tmp_path / "pki")


@pytest.fixture
def password(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.write_text(f"{SECRET}\nand a second line\n")
    path.chmod(0o600)
    return str(path)


@pytest.fixture(params=["strict", "off"])
def level(request: pytest.FixtureRequest) -> str:
    if request.param == "strict" and os.geteuid() != 0:
        pytest.skip("needs root: sudo ./dev test")
    return str(request.param)


def ask(world: Any, command: str) -> Any:
    with connect(str(world.dir() / "qmp"), deadline_s=PATIENCE_S) as client:
        return client.execute(command)


def connected(world: Any, kind: str = "vnc") -> socket.socket:
    host, _, port = str(world.info().details[kind]).rpartition(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, f"ended after {data!r}"
        data += piece
    return data


def security_types(sock: socket.socket) -> list[int]:
    """The kinds of security that the server offers: RFB 7.1.2."""
    assert read(sock, 12) == b"RFB 003.008\n"
    sock.sendall(b"RFB 003.008\n")
    return list(read(sock, read(sock, 1)[0]))


def answer(challenge: bytes, word: str) -> bytes:
    """The response of VNC authentication: the challenge in DES, with the bits of each key byte reversed (RFB 7.2.2)."""
    key = word.encode().ljust(8, b"\0")[:8]
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in key).hex()
    command = ["openssl", "enc", "-des-ecb", "-K", mirrored, "-nopad", "-provider", "legacy", "-provider", "default"]
    done = subprocess.run(command, input=challenge, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this openssl has no DES: {done.stderr.decode().strip()}")
    return done.stdout


def lets_in(world: Any, word: str) -> bool:
    with connected(world) as sock:
        assert security_types(sock) == [VNC_AUTH]
        sock.sendall(bytes([VNC_AUTH]))
        sock.sendall(answer(read(sock, 16), word))
        return read(sock, 4) == b"\0\0\0\0"


def vencrypt(sock: socket.socket) -> list[int]:
    """The subtypes of VeNCrypt that the server offers."""
    assert security_types(sock) == [VENCRYPT]
    sock.sendall(bytes([VENCRYPT]))
    assert read(sock, 2) == b"\0\2"
    sock.sendall(b"\0\2")
    assert read(sock, 1) == b"\0"
    return list(struct.unpack(f">{(count := read(sock, 1)[0])}I", read(sock, 4 * count)))


def visible_texts(world: Any) -> Iterator[str]:
    """Every text in which other users, or later readers, could find a secret."""
    process = world.record().process
    assert process is not None
    for name in ("cmdline", "environ"):
        yield Path(f"/proc/{process.pid}/{name}").read_bytes().decode("latin-1")
    yield json.dumps(world.info().to_json())
    for folder, _, names in os.walk(world.run_dir):
        for name in names:
            path = Path(folder, name)
            if path.is_file():
                yield path.read_bytes().decode("latin-1")


def test_the_password_of_vnc_is_the_first_line_of_the_file_and_is_seen_nowhere(
    world: Any, password: str, level: str
) -> None:
    world.start(vnc_bind_address="127.0.0.1", vnc_password_file=password, confinement=level)
    assert not any(SECRET in text or "hunt,,r" in text for text in visible_texts(world))
    assert [lets_in(world, word) for word in (SECRET, "wrong", "")] == [True, False, False]


def test_a_paused_start_that_is_finished_after_a_crash_leaves_no_copy_of_the_password(
    world: Any, password: str
) -> None:
    world.start(paused=True, vnc_bind_address="127.0.0.1", vnc_password_file=password)
    copy = GuestPaths(world.dir()).guest / PASSWORD  # as before the answer of QEMU
    shutil.copyfile(password, copy)
    world.save(replace(world.record(), phase=Phase.STARTING, process=None))
    assert [found.what for found in world.node.recover()] == ["finished"]
    assert not copy.exists()
    assert str(world.info().details["vnc"]).startswith("127.0.0.1:")


def test_vnc_with_certificates_is_who_it_says_and_leaves_no_key_behind(
    world: Any, certificates: Path, level: str
) -> None:
    world.start(vnc_bind_address="127.0.0.1", vnc_tls=True, vnc_x509_path=str(certificates), confinement=level)
    key = (certificates / "server-key.pem").read_text()
    assert not any(key[100:200] in text for text in visible_texts(world))
    context = ssl.create_default_context(cafile=str(certificates / "ca-cert.pem"))
    with connected(world) as sock:
        assert vencrypt(sock) == [X509_NONE]
        sock.sendall(struct.pack(">I", X509_NONE))
        assert read(sock, 1) == b"\1"
        with context.wrap_socket(sock, server_hostname="127.0.0.1") as encrypted:
            assert dict(pair[0] for pair in encrypted.getpeercert()["subject"])["commonName"] == "server"  # type: ignore[index,misc]
            assert read(encrypted, 4) == b"\0\0\0\0"


def test_vnc_that_verifies_lets_in_only_clients_with_a_certificate(world: Any, certificates: Path) -> None:
    given = {"vnc_tls": True, "vnc_x509_path": str(certificates), "vnc_x509_verify": True}
    world.start(vnc_bind_address="127.0.0.1", **given)
    context = ssl.create_default_context(cafile=str(certificates / "ca-cert.pem"))

    def comes_in() -> bool:
        with connected(world) as sock:
            vencrypt(sock)
            sock.sendall(struct.pack(">I", X509_NONE))
            read(sock, 1)
            try:
                with context.wrap_socket(sock, server_hostname="127.0.0.1") as encrypted:
                    return encrypted.recv(4) == b"\0\0\0\0"
            except OSError:
                return False

    assert not comes_in()
    context.load_cert_chain(str(certificates / "client-cert.pem"), str(certificates / "client-key.pem"))
    assert comes_in()


def test_vnc_is_encrypted_without_certificates_too(world: Any) -> None:
    world.start(vnc_bind_address="127.0.0.1", vnc_tls=True, keymap="de")
    with connected(world) as sock:
        assert vencrypt(sock) == [TLS_NONE]


def test_vnc_on_an_interface_is_served_on_its_address(world: Any) -> None:
    world.start(vnc_bind_address="lo")
    assert str(world.info().details["vnc"]).startswith("127.0.0.1:")
    assert world.record().instance.params["vnc_bind_address"] == "lo"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "has no password in its first line"),
        (b"\nsecond", "has no password in its first line"),
        (b"123456789\n", "has a password of 9 bytes, of which QEMU would use only the first 8"),
        (b"\xff\xfe\n", "has a password that is not UTF-8"),
        (b"a\0b\n", "has a NUL byte in its password"),
        (None, "cannot be used"),
    ],
)
def test_a_password_that_protects_nothing_is_refused(
    content: bytes | None, what: str, world: Any, tmp_path: Path
) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(hvcore.VerifyError, match=what) as caught:
        world.start(vnc_bind_address="127.0.0.1", vnc_password_file=str(path))
    assert "123456789" not in str(caught.value)


def test_certificates_that_are_missing_are_found_before_anything_is_started(world: Any, certificates: Path) -> None:
    (certificates / "server-key.pem").unlink()
    with pytest.raises(hvcore.VerifyError, match=r"params.vnc_x509_path: cannot be read.*server-key.pem"):
        world.start(vnc_bind_address="127.0.0.1", vnc_tls=True, vnc_x509_path=str(certificates))


@pytest.mark.parametrize("params", [{"vnc_bind_address": "no-such0"}, {"spice_bind": "no-such0"}])
def test_an_interface_that_is_not_there_is_refused(params: dict[str, str], world: Any) -> None:
    with pytest.raises(hvcore.VerifyError, match="is not a network interface of this node"):
        world.start(**params)


@pytest.fixture
def spice(world: Any) -> None:
    problems = ""
    try:
        world.kvm.verify(world.instance("probe", spice_bind="127.0.0.1"))
    except hvcore.VerifyError as error:
        problems = str(error)
    if problems:
        pytest.skip(f"no SPICE on this machine: {problems}")


@pytest.mark.usefixtures("spice")
def test_spice_asks_for_the_password_and_shows_it_nowhere(world: Any, password: str, level: str) -> None:
    world.start(spice_bind="127.0.0.1", spice_password_file=password, confinement=level)
    assert not any(SECRET in text or "hunt,,r" in text for text in visible_texts(world))
    reply = ask(world, "query-spice")
    assert (reply["enabled"], reply["auth"]) == (True, "spice")
    assert world.info().details["spice"] == f"127.0.0.1:{reply['port']}"
    with connected(world, "spice"):
        pass


@pytest.mark.usefixtures("spice")
def test_spice_with_certificates_is_who_it_says(world: Any, certificates: Path, level: str) -> None:
    world.start(spice_bind="lo", spice_use_tls=True, spice_x509_path=str(certificates), confinement=level)
    context = ssl.create_default_context(cafile=str(certificates / "ca-cert.pem"))
    with connected(world, "spice") as sock, context.wrap_socket(sock, server_hostname="127.0.0.1") as encrypted:
        assert encrypted.version() is not None
    assert "port" not in ask(world, "query-spice")


@pytest.mark.usefixtures("spice")
def test_two_displays_of_spice_get_two_ports_and_one_that_is_taken_is_refused(world: Any) -> None:
    world.start("web1", spice_bind="127.0.0.1")
    world.start("web2", spice_bind="127.0.0.1", machine_version="q35", spice_use_vdagent=False)
    places = [str(world.info(name).details["spice"]) for name in ("web1", "web2")]
    assert len(set(places)) == 2
    taken = int(places[0].rpartition(":")[2])
    with pytest.raises(hvcore.VerifyError, match=r"params.spice_port: cannot be opened at 127.0.0.1"):
        world.start("web3", spice_bind="127.0.0.1", spice_port=taken)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_that_was_chosen_is_reserved_until_its_server_listens(address: str) -> None:
    """A server that reuses addresses, as SPICE's does, gets it; others, and the next to choose, do not."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    first, second, server, stranger = reserve_port(address, 21_900), None, socket.socket(family), socket.socket(family)
    try:
        assert first is not None
        port = first.getsockname()[1]
        second = reserve_port(address, port)
        assert second is not None
        assert second.getsockname()[1] > port
        with pytest.raises(OSError, match="in use"):
            stranger.bind((address, port))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen()
        first.close()
        socket.create_connection((address, port), timeout=PATIENCE_S).close()
    finally:
        for sock in filter(None, (first, second, server, stranger)):
            sock.close()


@pytest.mark.usefixtures("spice")
def test_every_choice_of_spice_is_one_that_qemu_takes(world: Any) -> None:
    looks = {"image_compression": "quic", "jpeg_wan_compression": "auto", "zlib_glz_wan_compression": "always"}
    looks |= {"streaming_video": "all"}
    given = {f"spice_{key}": value for key, value in looks.items()}
    world.start(spice_bind="127.0.0.1", spice_ip_version=4, spice_playback_compression=False, **given)
    assert world.info().state is hvcore.State.RUNNING


def test_a_guest_as_a_user_of_the_node(root: None, world: Any) -> None:
    import pwd

    user = pwd.getpwnam("games")
    world.start(security_model="user", security_domain="games")
    status = Path(f"/proc/{world.pid()}/status").read_text()
    ids = {line.split()[0]: set(line.split()[1:]) for line in status.splitlines() if line[:4] in ("Uid:", "Gid:")}
    assert ids == {"Uid:": {str(user.pw_uid)}, "Gid:": {str(user.pw_gid)}}


def test_a_guest_as_the_caller_is_confined_all_the_same(world: Any) -> None:
    try:
        world.start(security_model="none")
    except hvcore.LaunchError as error:
        if "user namespace" not in str(error):
            raise
        pytest.skip(f"no user namespaces here: {error}")
    assert world.info().details["confinement"] == "user"
    assert os.stat(f"/proc/{world.pid()}").st_uid == os.geteuid()


@pytest.mark.parametrize(("name", "what"), [("nobody-of-ours", "is not a user of this node"), ("root", "is root")])
def test_a_user_that_cannot_be_is_refused(name: str, what: str, root: None, world: Any) -> None:
    with pytest.raises(hvcore.VerifyError, match=what):
        world.start(security_model="user", security_domain=name)


@pytest.mark.parametrize(
    ("params", "what"),
    [({"user_shutdown": True}, "params.user_shutdown: needs a watcher for guests that shut down")],
)
def test_what_cannot_act_yet_refuses_the_start_with_that_reason(
    params: dict[str, object], what: str, world: Any
) -> None:
    with pytest.raises(hvcore.VerifyError, match=what):
        world.start(**params)


def test_what_is_read_when_a_guest_moves_does_not_keep_it_from_starting(world: Any) -> None:
    world.start(migration_bandwidth=1000, migration_mode="non-live", migration_caps=["xbzrle"])


def test_a_password_can_be_changed_while_the_guest_runs_and_is_seen_nowhere(world: Any, password: str) -> None:
    world.start(vnc_bind_address="127.0.0.1", vnc_password_file=password)
    world.node.vnc_password("web1", "n,ew=1")
    assert [lets_in(world, word) for word in ("n,ew=1", SECRET)] == [True, False]
    assert not any("n,ew=1" in text or "n,,ew" in text for text in visible_texts(world))
    world.node.vnc_password("web1", "soon", valid_s=0.2)  # QEMU counts whole seconds
    deadline = time.monotonic() + 60
    while lets_in(world, "soon"):
        assert time.monotonic() < deadline
    world.node.vnc_password("web1", "again")
    assert lets_in(world, "again")
    found = {one.kind: one for one in world.node.consoles("web1")}
    assert found[ConsoleKind.SERIAL].socket == str(GuestPaths(world.dir()).serial)
    assert found[ConsoleKind.VNC].uri == f"vnc://{world.info().details['vnc']}"
    assert (found[ConsoleKind.VNC].tls, found[ConsoleKind.VNC].password) == (False, True)
    for wrong in ("", "x" * 9, "ä", "a\n"):
        with pytest.raises(InputError, match="1 to 8 printable ASCII"):
            world.node.vnc_password("web1", wrong)


def test_a_display_without_a_password_gets_none(world: Any, tmp_path: Path) -> None:
    world.start("web1", vnc_bind_address=str(tmp_path), serial_console=False)
    with pytest.raises(OperationError, match="its VNC display asks for no password"):
        world.node.vnc_password("web1", "new")
    (display,) = world.node.consoles("web1")
    assert (display.kind, display.uri) == (ConsoleKind.VNC, None)
    with socket.socket(socket.AF_UNIX) as sock, contextlib.chdir(world.dir() / "guest"):
        sock.connect(Path(str(display.socket)).name)
        assert security_types(sock) == [1]
    world.start("web3", serial_console=False, vnc_bind_address="socket")
    (private,) = world.node.consoles("web3")
    with pytest.raises(OperationError, match="or use 'hv view web3'"):
        world.node.console("web3")
    assert private.socket == world.info("web3").details["vnc"] == str(GuestPaths(world.dir("web3")).vnc)
    assert Path(str(private.socket)).is_socket()
    world.start("web2", serial_console=False)
    with pytest.raises(OperationError, match="it has no VNC display"):
        world.node.vnc_password("web2", "new")
    assert [one.kind for one in world.node.consoles("web2")] == [ConsoleKind.MESSAGE]


def test_a_screenshot_shows_the_screen_of_the_guest(world: Any, level: str) -> None:
    world.start(vga="std", confinement=level)
    before = ask(world, "query-fdsets")
    picture = world.node.screenshot("web1")
    width, height = struct.unpack(">II", picture[16:24])
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert width >= 320
    assert len(zlib.decompress(picture[picture.index(b"IDAT") + 4 : -16])) == height * (1 + 3 * width)
    world.node.pause("web1")
    assert world.node.screenshot("web1").startswith(b"\x89PNG")
    world.node.resume("web1")  # while a guest is paused, QEMU keeps each descriptor that it got
    ask(world, "query-fdsets")
    assert ask(world, "query-fdsets") == before
    world.start("web2")
    with pytest.raises(OperationError, match=r"web2: has no picture, .*; set vga"):
        world.node.screenshot("web2")


def test_a_guest_that_hangs_or_is_dead_gives_no_picture_in_time(world: Any, password: str) -> None:
    world.start(vga="std", vnc_bind_address="127.0.0.1", vnc_password_file=password)
    with connect(str(GuestPaths(world.dir()).commands), deadline_s=PATIENCE_S):  # the second monitor answers
        assert world.node.screenshot("web1").startswith(b"\x89PNG")
    pid = world.info().pid
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(DeadlineError):
            world.node.screenshot("web1", deadline_s=1.0)
        with pytest.raises(DeadlineError) as caught:
            world.node.vnc_password("web1", "h1dden", deadline_s=1.0)
        assert "h1dden" not in f"{caught.value}{caught.value.to_json()}"
    finally:
        os.kill(pid, signal.SIGCONT)
    assert world.info().state == "running"
    assert world.node.screenshot("web1", deadline_s=60).startswith(b"\x89PNG")
    os.kill(pid, signal.SIGKILL)
    world.node.wait("web1", state="crashed")
    with pytest.raises(StateError, match="cannot screenshot while crashed"):
        world.node.screenshot("web1")
