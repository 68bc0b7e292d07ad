"""Security: what /proc shows of the processes, not what was asked for."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hvcore.params.param import Param
from hvcore.testing.bench import Bench
from hvcore.testing.check import Level, Skipped, Tier, check, require

__all__: tuple[str, ...] = ()

_SECRET = "kitpw471"  # noqa: S105 - a marker that is looked for; VNC takes eight characters


def _status(bench: Bench) -> dict[str, str]:
    """/proc/PID/status of the instance's own process."""
    bench.start()
    text = Path(f"/proc/{bench.process().pid}/status").read_text()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


@check(
    Level.HARDENING,
    Tier.LIVE,
    why="A guest that breaks out is the user that its process runs as. As root it owns the node.",
)
def sec_user(bench: Bench) -> None:
    """The process runs as a user other than root, and not as the one of another instance."""
    uids = set(_status(bench)["Uid"].split())
    require("0" not in uids, "its process runs as root")
    bench.start("web2")
    other = Path(f"/proc/{bench.process('web2').pid}/status").read_text()
    same = os.geteuid() == 0 and uids & set(other.partition("\nUid:")[2].splitlines()[0].split())
    require(not same, f"two instances run as one user, {', '.join(sorted(uids))}")


@check(
    Level.HARDENING,
    Tier.LIVE,
    why="A capability is a piece of root. None is needed by a process that was given its descriptors.",
)
def sec_no_capabilities(bench: Bench) -> None:
    """The process has no capability in any set."""
    status = _status(bench)
    found = [
        f"{name} {status[name]}" for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(status[name], 16)
    ]
    require(not found, f"its process has capabilities: {', '.join(found)}")


@check(
    Level.HARDENING,
    Tier.LIVE,
    why="Without it one setuid program inside the sandbox gives back what was given up.",
)
def sec_no_new_privs(bench: Bench) -> None:
    """The process cannot gain privileges by executing something."""
    require(_status(bench).get("NoNewPrivs") == "1", "its process may gain privileges (NoNewPrivs is not 1)")


@check(
    Level.HARDENING,
    Tier.LIVE,
    why="Most ways out of a hypervisor go through system calls that it never needs.",
)
def sec_seccomp(bench: Bench) -> None:
    """The process has a seccomp filter."""
    require(_status(bench).get("Seccomp") == "2", "its process has no seccomp filter")


@check(
    Level.HARDENING,
    Tier.LIVE,
    why="A process that sees the node's file system can read what is readable for all: /etc/passwd, other guests' logs.",
)
def sec_own_namespaces(bench: Bench) -> None:
    """The process has mount, pid and ipc namespaces of its own."""
    bench.start()
    pid = bench.process().pid
    kinds = ("mnt", "pid", "ipc")
    shared = [kind for kind in kinds if os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")]
    require(not shared, f"its process shares the node's {', '.join(shared)} namespace")


@check(
    Level.HARDENING,
    Tier.LIVE,
    why="Measured: QEMU opens /etc/passwd as a disk when it is told to, unless something keeps it from doing so.",
)
def sec_node_files_hidden(bench: Bench) -> None:
    """The node's /etc/passwd and the run directory are not to be seen from the process's root."""
    bench.start()
    root = f"/proc/{bench.process().pid}/root"
    require(os.path.isdir(f"{root}/"), "its root directory cannot be looked at from here")
    for path in ("/etc/passwd", str(bench.run_dir), str(bench.run_dir / "locks")):
        seen = os.path.exists(f"{root}{path}") and os.path.samefile(f"{root}{path}", path)
        require(not seen, f"its process sees the node's {path}")


@check(
    Level.MUST,
    Tier.LIVE,
    why="Who can write to the directory of a record can make the next stop kill anything; who can reach a monitor's socket "
    "is the guest's owner.",
)
def sec_run_dir_private(bench: Bench) -> None:
    """The directories of instances are open to their owner and to nobody else."""
    bench.start()
    for folder in ("instances", f"instances/{bench.name()}"):
        mode = stat.S_IMODE(os.stat(bench.run_dir / folder).st_mode)
        require(mode == 0o700, f"{folder} in the run directory has mode {mode:04o}, not 0700")


@check(
    Level.HARDENING,
    Tier.LIVE,
    why="The directory keeps others out. A mode of its own keeps them out when somebody bind-mounts or moves it.",
)
def sec_sockets_private(bench: Bench) -> None:
    """No file and no socket of an instance is open to others."""
    bench.start()
    for path in (bench.run_dir / "instances" / bench.name()).iterdir():
        found = path.lstat()
        shut = stat.S_ISLNK(found.st_mode) or stat.S_ISDIR(found.st_mode) or not stat.S_IMODE(found.st_mode) & 0o007
        require(shut, f"{path.name} of an instance has mode {stat.S_IMODE(found.st_mode):04o}, open to everybody")


@check(
    Level.MUST,
    Tier.LIVE,
    why="Command lines and environments can be read by every user of the node; records and logs are kept and copied.",
)
def sec_secrets_stay_secret(bench: Bench) -> None:
    """A secret parameter is in no command line, no environment, not in the record and not in what info tells."""
    secret = _secret(bench)
    instance = bench.instance(params={secret.key: _SECRET})
    bench.handle.start(instance, deadline_s=30)
    places = {"its record": (bench.run_dir / "instances" / bench.name() / "record.json").read_bytes()}
    places["what info tells"] = str(bench.info().to_json()).encode()
    for process in bench.processes():
        for name in ("cmdline", "environ"):
            places[f"{name} of pid {process.pid}"] = Path(f"/proc/{process.pid}/{name}").read_bytes()
    found = [where for where, data in places.items() if _SECRET.encode() in data]
    require(not found, f"the value of {secret.key} is in {', '.join(found)}")


def _secret(bench: Bench) -> Param:
    for param in bench.loaded.schema.params.values():
        if param.secret:
            params, _ = bench.loaded.problems(bench.instance(params={param.key: _SECRET}))
            if params is not None and not bench.loaded.verify(
                bench.loaded.driver.plan(bench.instance(params={param.key: _SECRET}), params), params, bench.host
            ):
                return param
    raise Skipped("it has no secret parameter that takes a text by itself")
