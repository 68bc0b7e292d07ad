"""Drivers that fail a check of crash, recovery or security."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from kit_broken import breaks, plugins, waste
from kit_good import ALLOW_ALL, Good, NoteKind

import hvcore.plugin as hv
from hvcore.model.record import Phase
from hvcore.plugin import State


class OutsideLedger(Good):
    """Has a file that is not in the ledger, and removes it at a normal stop."""

    def mine(self, run_dir: Path, name: str) -> Path:
        return run_dir / f"mine-{name}"

    def start(self, spec: Any, job: hv.Job) -> None:
        path = self.mine(job.host.run_dir, job.name)
        path.touch()
        with self.kept(path):
            super().start(spec, job)

    @contextmanager
    def kept(self, path: Path) -> Iterator[None]:
        try:
            yield
        except Exception:
            path.unlink()
            raise

    def stop(self, live: hv.Live, job: hv.Job, *, force: bool) -> str:
        stopped_by = super().stop(live, job, force=force)
        for _ in range(20):
            os.chmod(live.dir, 0o700)
        self.mine(live.host.run_dir, job.name).unlink()
        return stopped_by


@breaks("crash_host_sigkill_start", "gone, and leaves file .*/mine-")
class LostByKill(OutsideLedger): ...


@breaks("crash_host_sigkill_stop", r"killed at change \d+ of a stop: gone, and leaves file .*/mine-")
class LostInStop(OutsideLedger): ...


@breaks("crash_interrupted_start", r"interrupted at change \d+ of a start: gone, and leaves file .*/mine-")
class LostByInterrupt(OutsideLedger): ...


class Wrapped(Good):
    def start(self, spec: Any, job: hv.Job) -> None:
        try:
            super().start(spec, job)
        except (OSError, hv.NodeError) as error:
            raise RuntimeError("it did not work") from error


@breaks("crash_disk_full", r"it did not work; report this to its authors .*and no typed error")
class WrapsFull(Wrapped): ...


@breaks("crash_emfile", "without free descriptors a start ends in DriverError: .*it did not work")
class WrapsStarved(Wrapped): ...


@breaks("crash_vmm_sigkill", "is running after its process was killed")
class Hopeful(Good):
    def observe(self, live: hv.Live) -> hv.Observation:
        return replace(super().observe(live), state=State.RUNNING)


@breaks("crash_vmm_sigkill_state", "is shutdown after its process was killed, not crashed")
class Discreet(Good):
    def observe(self, live: hv.Live) -> hv.Observation:
        found = super().observe(live)
        return replace(found, state=State.SHUTDOWN) if found.state is State.CRASHED else found


@breaks("crash_vmm_sigstop", r"info of an instance whose process hangs takes \d+\.\d s")
class Waits(Good):
    waited = False

    def observe(self, live: hv.Live) -> hv.Observation:
        found = super().observe(live)
        if found.state is State.PAUSED and not Waits.waited:
            Waits.waited = True
            waste(2.1)
        return found


class NoteOfProcess(NoteKind):
    def release(self, entry: hv.Entry, owner: hv.Owner) -> None:
        process = owner.record.process
        if process is not None and not hv.alive(process):
            raise ProcessLookupError(3, "no such process")
        super().release(entry, owner)


@breaks("crash_partial_cleanup", "a stop after its processes were killed raises LeftoverError")
class NeedsProcess(Good):
    plugins = plugins(kind=NoteOfProcess)


# --------------------------------------------------------------------------------------------------------- recovery


@breaks("recover_running", "for another program crashed")
class InMemory(Good):
    known: ClassVar[set[str]] = set()

    def start(self, spec: Any, job: hv.Job) -> None:
        super().start(spec, job)
        self.known.add(job.name)

    def observe(self, live: hv.Live) -> hv.Observation:
        if live.record.name not in self.known:
            return hv.Observation(state=State.CRASHED, reason="never heard of it")
        return super().observe(live)


@breaks("recover_wrong_process", "a stop signals another program that has the pid of its process")
class ByNumber(Good):
    def observe(self, live: hv.Live) -> hv.Observation:
        process = live.record.process
        there = process is not None and os.path.exists(f"/proc/{process.pid}")
        return hv.Observation(state=State.RUNNING if there else State.CRASHED, reason="by its number")

    def stop(self, live: hv.Live, job: hv.Job, *, force: bool) -> str:
        if live.record.process is not None:
            with suppress(ProcessLookupError):
                os.kill(live.record.process.pid, 9)
                hv.wait_gone(live.record.process, 1.0)
                waste(0.05)
        return "kill"


@breaks("recover_leaves_running_alone", r"was running with pid \d+, after recover running with pid \d+")
class OtherPid(Good):
    seen = 0

    def observe(self, live: hv.Live) -> hv.Observation:
        OtherPid.seen += 1
        return replace(super().observe(live), pid=OtherPid.seen)


@breaks("recover_interrupted_start", r"an interrupted start is \['failed'\] by recovery")
class CannotAdopt(Good):
    def adopt(self, live: hv.Live, job: hv.Job) -> bool:
        raise RuntimeError("no")


@breaks("recover_interrupted_stop", r"an interrupted stop of a running instance is \['finished'\]")
class GivesUp(Good):
    def observe(self, live: hv.Live) -> hv.Observation:
        if live.record.phase is Phase.STOPPING:
            return hv.Observation(state=State.SHUTDOWN, reason="it was to stop")
        return super().observe(live)


class NoteOfBoot(NoteKind):
    def release(self, entry: hv.Entry, owner: hv.Owner) -> None:
        if owner.record.boot_id != hv.boot_id():
            raise hv.LeftoverError(f"{owner.name}: is of another boot; reboot again")
        super().release(entry, owner)


@breaks("recover_after_reboot", r"a record of another boot is \['failed'\] by recovery")
class ThisBoot(Good):
    plugins = plugins(kind=NoteOfBoot)


@breaks("recover_record_reads", "the spec in its record is a Other, not a Spec")
class OtherSpec(Good):
    def start(self, spec: Any, job: hv.Job) -> None:
        super().start(spec, job)
        job.update(spec={"kind": "Other"})


# --------------------------------------------------------------------------------------------------------- security


@breaks("sec_user", "its process runs as root")
class AsRoot(Good):
    sandbox: ClassVar[dict[str, Any]] = {"who": hv.AsRoot()}


@breaks("sec_no_capabilities", "its process has capabilities: .*CapEff")
class Capable(Good):
    sandbox: ClassVar[dict[str, Any]] = {"who": hv.AsRoot(capabilities=("CAP_CHOWN",))}


class Free(Good):
    sandbox: ClassVar[dict[str, Any] | None] = None


@breaks("sec_no_new_privs", "its process may gain privileges")
class FreeToGain(Free): ...


@breaks("sec_own_namespaces", "its process shares the node's mnt, pid, ipc namespace")
class FreeToSee(Free): ...


@breaks("sec_seccomp", "its process has no seccomp filter")
class Unfiltered(Good):
    sandbox: ClassVar[dict[str, Any]] = {}


@breaks("sec_node_files_hidden", "its process sees the node's /etc/passwd")
class SeesEtc(Good):
    sandbox: ClassVar[dict[str, Any]] = {
        "filter": ALLOW_ALL,
        "view": hv.View(read_only=(("/etc/passwd", "/etc/passwd"),)),
    }


@breaks("sec_run_dir_private", "has mode 0755, not 0700")
class OpenDirectory(Good):
    def start(self, spec: Any, job: hv.Job) -> None:
        super().start(spec, job)
        os.chmod(job.dir, 0o755)


@breaks("sec_sockets_private", "monitor of an instance has mode 0666, open to other users")
class OpenFile(Good):
    def start(self, spec: Any, job: hv.Job) -> None:
        super().start(spec, job)
        (job.dir / "monitor").touch()
        (job.dir / "monitor").chmod(0o666)


@breaks("sec_secrets_stay_secret", "the value of password is in .*environ of pid")
class Environment(Good):
    def plan(self, instance: hv.Instance, params: hv.Params) -> Any:
        self.secret = params["password"] or ""
        return super().plan(instance, params)

    def start(self, spec: Any, job: hv.Job) -> None:
        self.sandbox = {"filter": ALLOW_ALL, "environment": (("PASSWORD", self.secret),)}  # type: ignore[misc]
        super().start(spec, job)
