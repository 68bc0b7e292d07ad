"""Security: the confinement of the processes as /proc shows it, not as the driver requested it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hvcore.params.param import Param
from hvcore.testing.check import PATIENCE_S, Bench, Level, Skipped, Tier, check, require

__all__: tuple[str, ...] = ()

_SECRET = "kitpw471"  # noqa: S105 - a marker to search for; VNC accepts eight characters


def _status(bench: Bench, label: str = "web1") -> dict[str, str]:
    """/proc/PID/status of the process of an instance, which is started."""
    bench.start(label)
    text = Path(f"/proc/{bench.process(label).pid}/status").read_text()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


@check(Level.HARDENING, Tier.LIVE)
def sec_user(bench: Bench) -> None:
    """The process does not run as root, nor as the user of another instance.

    Why: A guest that breaks out has the rights of its process's user. Root owns the node.
    """
    uids = set(_status(bench)["Uid"].split())
    require("0" not in uids, "its process runs as root")
    same = os.geteuid() == 0 and uids & set(_status(bench, "web2")["Uid"].split())
    require(not same, f"two instances run as the same user, {', '.join(sorted(uids))}")


@check(Level.HARDENING, Tier.LIVE)
def sec_no_capabilities(bench: Bench) -> None:
    """The process has no capability in any set.

    Why: A capability is a part of root's power. A process that is given its descriptors needs none.
    """
    status = _status(bench)
    sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    found = [f"{name} {status[name]}" for name in sets if int(status[name], 16)]
    require(not found, f"its process has capabilities: {', '.join(found)}")


@check(Level.HARDENING, Tier.LIVE)
def sec_no_new_privs(bench: Bench) -> None:
    """The process cannot gain privileges by executing a program.

    Why: Otherwise one set-uid program inside the sandbox restores the privileges that were dropped.
    """
    require(_status(bench).get("NoNewPrivs") == "1", "its process may gain privileges (NoNewPrivs is not 1)")


@check(Level.HARDENING, Tier.LIVE)
def sec_seccomp(bench: Bench) -> None:
    """The process has a seccomp filter.

    Why: Most exploits of a hypervisor use system calls that it never needs.
    """
    require(_status(bench).get("Seccomp") == "2", "its process has no seccomp filter")


@check(Level.HARDENING, Tier.LIVE)
def sec_own_namespaces(bench: Bench) -> None:
    """The process has its own mount, pid and ipc namespaces.

    Why: A process that sees the node's file system can read every world-readable file: /etc/passwd, other guests' logs.
    """
    bench.start()
    pid = bench.process().pid
    kinds = ("mnt", "pid", "ipc")
    shared = [kind for kind in kinds if os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")]
    require(not shared, f"its process shares the node's {', '.join(shared)} namespace")


@check(Level.HARDENING, Tier.LIVE)
def sec_node_files_hidden(bench: Bench) -> None:
    """The node's /etc/passwd and the run directory are not visible from the process's root directory.

    Why: Measured: without such a barrier, QEMU opens /etc/passwd as a disk if a file says so.
    """
    bench.start()
    root = f"/proc/{bench.process().pid}/root"
    require(os.path.isdir(f"{root}/"), "its root directory cannot be read")
    for path in ("/etc/passwd", str(bench.run_dir), str(bench.run_dir / "locks")):
        seen = os.path.exists(f"{root}{path}") and os.path.samefile(f"{root}{path}", path)
        require(not seen, f"its process sees the node's {path}")


@check(Level.MUST, Tier.LIVE)
def sec_run_dir_private(bench: Bench) -> None:
    """Only the owner can open the directories of instances.

    Why: A user who can write to a record's directory can make the next stop kill any process. A user who can reach a
    monitor's socket controls the guest.
    """
    bench.start()
    for folder in ("instances", f"instances/{bench.name()}"):
        mode = stat.S_IMODE(os.stat(bench.run_dir / folder).st_mode)
        require(mode == 0o700, f"{folder} in the run directory has mode {mode:04o}, not 0700")


@check(Level.HARDENING, Tier.LIVE)
def sec_sockets_private(bench: Bench) -> None:
    """No file and no socket of an instance is open to other users.

    Why: The directory keeps other users out. The mode of the file still does so if the directory is moved or
    bind-mounted.
    """
    bench.start()
    for path in (bench.run_dir / "instances" / bench.name()).iterdir():
        found = path.lstat()
        shut = stat.S_ISLNK(found.st_mode) or stat.S_ISDIR(found.st_mode) or not stat.S_IMODE(found.st_mode) & 0o007
        require(shut, f"{path.name} of an instance has mode {stat.S_IMODE(found.st_mode):04o}, open to other users")


@check(Level.MUST, Tier.LIVE)
def sec_secrets_stay_secret(bench: Bench) -> None:
    """The value of a secret parameter is in no command line, no environment, not in the record and not in the output of info.

    Why: Every user of the node can read command lines and environments. Records and logs are kept and copied.
    """
    secret = _secret(bench)
    instance = bench.instance(params={secret.key: _SECRET})
    bench.handle.start(instance, deadline_s=PATIENCE_S)
    places = {"its record": (bench.run_dir / "instances" / bench.name() / "record.json").read_bytes()}
    places["the output of info"] = str(bench.info().to_json()).encode()
    for process in bench.processes():
        for name in ("cmdline", "environ"):
            places[f"{name} of pid {process.pid}"] = Path(f"/proc/{process.pid}/{name}").read_bytes()
    found = [where for where, data in places.items() if _SECRET.encode() in data]
    require(not found, f"the value of {secret.key} is in {', '.join(found)}")


def _secret(bench: Bench) -> Param:
    for param in bench.loaded.schema.params.values():
        if param.secret:
            instance = bench.instance(params={param.key: _SECRET})
            params, _ = bench.loaded.problems(instance)
            if params and not bench.loaded.verify(bench.loaded.driver.plan(instance, params), params, bench.host):
                return param
    raise Skipped("it has no secret parameter that accepts a string without other parameters")
