"""Drivers that fail a check of the live tier, except crash, recovery and security."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from kit_broken import breaks, plugins, waste
from kit_good import Good, Note, NoteKind, Spec
from kit_subject import SUBJECT

import hvcore.plugin as hv
from hvcore.plugin import State


def observed(state: State, live: hv.Live) -> hv.Observation:
    process = live.record.process
    return hv.Observation(state=state, reason="so it says", pid=None if process is None else process.pid)


@breaks("life_full_cycle", "a start ends with crashed")
class Gloomy(Good):
    def observe(self, live: hv.Live) -> hv.Observation:
        return observed(State.CRASHED, live)


@breaks("life_state_table", "reboot while paused fails: OperationError: .*cannot be stopped while it stands still")
class NotWhilePaused(Good):
    def stop(self, live: hv.Live, job: hv.Job, *, force: bool) -> str:
        if self.observe(live).state is State.PAUSED:
            raise hv.OperationError(f"{job.name}: cannot be stopped while it stands still; resume it")
        return super().stop(live, job, force=force)


@breaks("life_effects_within_plan", "holds a process, and no step of its plan says launch")
class Unannounced(Good):
    def describe(self, spec: Any, host: hv.Host) -> hv.Plan:
        return replace(super().describe(spec, host), steps=(hv.Step(kind="think", what="about it"),))


@breaks("life_start_failure_reports", "a start that fails raises an untyped error: .*RuntimeError: no")
class Untyped(Good):
    def start(self, spec: Any, job: hv.Job) -> None:
        if spec.broken:
            raise RuntimeError("no")
        super().start(spec, job)


@breaks("life_polite_stop", "a guest that obeys a polite stop is ended by kill")
class Rude(Good):
    def stop(self, live: hv.Live, job: hv.Job, *, force: bool) -> str:
        return super().stop(live, job, force=True)


@breaks("life_graceful_then_forced", r"a stop with a deadline of 1 s takes \d+\.\d s")
class Patient(Good):
    def stop(self, live: hv.Live, job: hv.Job, *, force: bool) -> str:
        waste(2.6)
        return super().stop(live, job, force=True)


@breaks("life_stop_by_force", r"a stop by force takes \d+\.\d s")
class Hesitant(Good):
    def stop(self, live: hv.Live, job: hv.Job, *, force: bool) -> str:
        waste(2.1)
        return super().stop(live, job, force=force)


@breaks("life_deadline_kept", r"a start with a deadline of 1 ms takes \d+\.\d s")
class Slow(Good):
    def start(self, spec: Any, job: hv.Job) -> None:
        waste(2.1)
        super().start(spec, job)


@breaks("life_exit_reported", "a guest that shut down is crashed, not shutdown")
class Alarmed(Good):
    def observe(self, live: hv.Live) -> hv.Observation:
        found = super().observe(live)
        return replace(found, state=State.CRASHED) if found.state is State.SHUTDOWN else found


@breaks("life_name_limits", "stopping web1 leaves web10 crashed")
class ByPrefix(Good):
    def stop(self, live: hv.Live, job: hv.Job, *, force: bool) -> str:
        for directory in live.dir.parent.glob(f"{live.dir.name}*"):
            pid = hv.read_status(directory / hv.STATUS).pid
            process = None if pid is None else hv.identify(pid)
            if process is not None:
                hv.kill_and_wait(process, subject=job.name, deadline_s=60)
        return "kill"


@breaks("argv_no_shell", "runs a shell")
class Shell(Good):
    def start(self, spec: Any, job: hv.Job) -> None:
        subprocess.run("true", shell=True, check=True)
        super().start(spec, job)


# --------------------------------------------------------------------------------------------------------- abilities


@breaks(
    "capability_reset", "a reset of a running instance ends with|is paused after a reset|is running after a reset while"
)
class ResumesByReset(Good):
    def reset(self, live: hv.Live, job: hv.Job) -> None:
        if live.record.paused:
            self.resume(live, job)
            job.update(paused=False)


@breaks("capability_powerdown", "powerdown is claimed, but raises OperationError: .*: no button")
class NoButton(Good):
    def powerdown(self, live: hv.Live, job: hv.Job) -> None:
        raise hv.OperationError(f"{job.name}: no button; look for it")


@breaks("capability_send_key", "presses a key 'no_such_key', which does not exist")
class AnyKey(Good):
    def send_keys(self, live: hv.Live, job: hv.Job, keys: tuple[tuple[str, ...], ...]) -> None:
        """Presses what it is given."""


@breaks("capability_nmi", "nmi is claimed, but raises OperationError: .*: no wire")
class NoWire(Good):
    def nmi(self, live: hv.Live, job: hv.Job) -> None:
        raise hv.OperationError(f"{job.name}: no wire; solder one")


@breaks("life_moves", r"stays where it is: .*: is at home in one run directory only")
class Homesick(Good):
    def start(self, spec: Any, job: hv.Job) -> None:
        if job.host.run_dir.name != "run":
            raise hv.OperationError(f"{job.name}: is at home in one run directory only; start it there")
        super().start(spec, job)


@breaks("life_is_watched", "it was started, but .* not-watched, only its start and end are seen: .* KeyError")
class Blind(Good):
    def watched(self, live: hv.Live) -> hv.Watched:
        raise KeyError("events")


@breaks("capability_watch", "its reader of events raises IndexError for b''")
class ExpectsText(Good):
    def watched(self, live: hv.Live) -> hv.Watched:
        def read(line: bytes) -> Sequence[hv.Event]:
            return () if line[0] == ord("x") else []

        return hv.Watched(files=(hv.EventFile(path=str(live.dir / "events"), reader=lambda _: read),))


@breaks("capability_pause", "is running after pause")
class NoPause(Good):
    def pause(self, live: hv.Live, job: hv.Job) -> None:
        """Does nothing. The core believes that it paused until it observes the state."""

    def observe(self, live: hv.Live) -> hv.Observation:
        return replace(
            super().observe(live), state=State.PAUSED if live.record.paused and Looked.twice() else State.RUNNING
        )


class Looked:
    """The observations of both pauses see the requested state."""

    count = 0

    @classmethod
    def twice(cls) -> bool:
        cls.count += 1
        return cls.count < 2


@breaks("capability_console", "its console has neither a socket nor a command")
class NoConsole(Good):
    def console(self, live: hv.Live) -> hv.Console:
        return hv.Console(name=live.record.name)


@breaks("capability_abi", "its list has one fact twice")
class Repeats(Good):
    def guest_abi(self, spec: Any, host: hv.Host) -> hv.Abi:
        return hv.Abi.of([hv.AbiEntry(kind=hv.AbiClass.SEEN, what="machine", key="cpus", value="1")] * 2)


@breaks("capability_upgrade_check", "gives an answer about a program that does not exist")
class LooksAtNothing(Good):
    def upgrade(self, spec: Any, host: hv.Host, program: str, *, live: hv.Live | None) -> hv.Upgrade:
        return hv.Upgrade()


@breaks("capability_exec", "exec is claimed, but its command is empty")
class NothingToRun(Good):
    def execution(self, live: hv.Live, argv: tuple[str, ...], *, terminal: bool) -> tuple[str, ...]:
        return ()


@breaks("capability_log", "its log .*/nowhere' does not exist")
class NoLog(Good):
    def log(self, live: hv.Live) -> Path:
        return live.dir / "nowhere"


@breaks("capability_adopt", "recovery does not undo a start whose process is dead")
class Trusting(Good):
    def adopt(self, live: hv.Live, job: hv.Job) -> bool:
        return True


class ReleasedOnce(NoteKind):
    def release(self, entry: hv.Entry, owner: hv.Owner) -> None:
        self.path(owner).unlink()


@breaks("capability_releases", "a second release of note raises FileNotFoundError")
class Once(Good):
    plugins = plugins(kind=ReleasedOnce)


# ------------------------------------------------------------------------------------------------------ idempotency


@breaks("idem_stop_twice", "a second stop says that it changed something")
class Returns(Good):
    place: ClassVar[list[Path]] = []

    @staticmethod
    def come_back(instance: hv.Instance) -> None:
        if Returns.place:
            Returns.place[0].mkdir(exist_ok=True)
            (Returns.place[0] / "alive").touch()

    plugins = plugins(ended=come_back.__func__)  # type: ignore[attr-defined]

    def start(self, spec: Any, job: hv.Job) -> None:
        super().start(spec, job)
        Returns.place.append(job.dir)


@breaks("idem_start_running", "a second start says that it changed something")
class Forgetful(Good):
    def observe(self, live: hv.Live) -> hv.Observation:
        return observed(State.SHUTDOWN, live)


class Litter(Good):
    """Leaves a file that is never released."""

    def start(self, spec: Any, job: hv.Job) -> None:
        super().start(spec, job)
        (job.host.run_dir / f"litter-{job.name}").touch()


@breaks("idem_lifecycle_x10", "a series of cycles leaves file .*/litter-")
class LitterOfCycles(Litter): ...


@breaks("leak_files_sockets_shm_tmp", "after a stop there is file .*/litter-")
class LitterOfOne(Litter): ...


# ------------------------------------------------------------------------------------------------------ concurrency


@breaks("conc_same_instance", "operations at the same time raise .*no slot left")
class OneSlot(Good):
    started = 0

    def start(self, spec: Any, job: hv.Job) -> None:
        OneSlot.started += 1
        if OneSlot.started > 1:
            raise RuntimeError("no slot left")
        super().start(spec, job)


class NoteOfAll(NoteKind):
    def path(self, owner: hv.Owner) -> Path:
        return owner.host.run_dir / "note"

    def acquire(self, resource: Note, held: hv.Held) -> None:
        os.close(os.open(self.path(held.owner), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


@breaks("conc_many_instances", "starts at the same time fail")
class OnePlace(Good):
    plugins = plugins(kind=NoteOfAll)


# ------------------------------------------------------------------------------------------------------------ leaks


@breaks("leak_fds", "a cycle leaves descriptor .* of /dev/null")
class KeepsOpen(Good):
    def start(self, spec: Any, job: hv.Job) -> None:
        os.open("/dev/null", os.O_RDONLY)
        super().start(spec, job)


HELPERS: list[int] = []
"""Pids of processes without a parent that waits. The tests collect them after the check has killed them."""


class Helper(Good):
    """Starts another process, without hvcore's launcher."""

    def helper(self, job: hv.Job, **more: Any) -> hv.ProcessId | None:
        environment: Mapping[str, str] = {"PLACE": str(job.dir)}
        child = subprocess.Popen(["/usr/bin/sleep", "100000"], env=environment, start_new_session=True, **more)
        child.returncode = 0  # so that Popen does not wait for it
        HELPERS.append(child.pid)
        return hv.identify(child.pid)


@breaks("leak_fds_inherited", "has a descriptor of the program that started it")
class Inherits(Helper):
    def launch(self, spec: Any, job: hv.Job) -> None:
        process = self.helper(job, close_fds=False)
        assert process is not None
        job.started(process)


@breaks("leak_processes_zombies", "after a stop there is process")
class Leaves(Helper):
    def start(self, spec: Any, job: hv.Job) -> None:
        super().start(spec, job)
        self.helper(job)


@breaks("leak_mounts_netns_links_cgroups", "after a stop there is mount .*/mount-")
class Mounts(Good):
    def start(self, spec: Any, job: hv.Job) -> None:
        super().start(spec, job)
        place = job.host.run_dir / f"mount-{job.name}"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], check=True)


@breaks("capability_usage", "cannot measure a running instance: driver good: usage raised TypeError: 1 answers for 2")
class CountsOne(Good):
    def usage(self, lives: Sequence[hv.Live], deadline: hv.Deadline) -> list[hv.Usage]:
        return [hv.Usage(cpu_seconds=1.0)]


@breaks("capability_version", "its version cannot be read: driver good: version raised KeyError: 'path'")
class Versionless(Good):
    def version(self, host: hv.Host, params: hv.Params) -> str:
        return dict[str, str]()["path"]


@breaks("capability_balloon", "balloon takes a size above its memory")
class Generous(Good):
    def balloon(self, live: hv.Live, job: hv.Job, memory_mib: int) -> hv.Reached:
        return hv.Reached(before=memory_mib, after=memory_mib)


@breaks("capability_memory", "memory fails for an impossible size: .*resize_memory .*: raised MemoryError")
class Untaught(Good):
    def resize_memory(self, live: hv.Live, job: hv.Job, memory_mib: int) -> hv.Reached:
        if memory_mib > 1 << 20:
            raise MemoryError("no such memory")
        return hv.Reached(before=memory_mib, after=memory_mib)


@breaks("capability_vcpus", "vcpus with the size that it has says .*2 vcpus")
class Adds(Good):
    def resize_vcpus(self, live: hv.Live, job: hv.Job, vcpus: int) -> hv.Reached:
        return hv.Reached(before=vcpus, after=vcpus + 1)


@breaks("capability_screenshot", "its picture is not a PNG file, it begins with b'P6")
class Unpacked(Good):
    def screenshot(self, live: hv.Live, job: hv.Job) -> bytes:
        return b"P6 1 1 255 \0\0\0"


@breaks("capability_vnc_password", "the password is in .*/record.json")
class Remembers(Good):
    def vnc_password(self, live: hv.Live, job: hv.Job, password: str, valid_s: float | None) -> None:
        job.bind(password=password)
        job.update()


@breaks("capability_pin", "a second pin to the same CPUs says that it changed something")
class PinsAgain(Good):
    def pin(self, live: hv.Live, job: hv.Job, pins: hv.Pins) -> bool:
        if pins.vcpus:
            raise hv.InputError(f"{job.name}: vcpus: has none; give CPUs for all threads")
        return True


@breaks("capability_attach", "attach is claimed, but raises OperationError: .*the bus is full")
class Full(Good):
    """Claims to attach disks."""

    def read_spec(self, data: object) -> Any:
        return hv.decode(Spec, data, "spec")

    def devices(self, spec: Any) -> dict[str, str]:
        return {}

    def attached(self, job: hv.Job, instance: hv.Instance, params: hv.Params, field: str) -> tuple[Any, str]:
        raise hv.OperationError(f"{job.name}: the bus is full; detach something")

    def detached(self, job: hv.Job, device: str) -> Any:
        raise hv.OperationError(f"{job.name}: {device} stays; stop it")

    def alter(self, job: hv.Job, *, before: Any, after: Any, device: str) -> None:
        """Nothing to do."""

    def altered(self, job: hv.Job, *, before: Any, after: Any, device: str) -> bool:
        return True


@breaks(
    "capability_attach_interrupted", r"interrupted before anything was done is \[Recovered\(.*finished.*, not undone"
)
class Optimistic(Full):
    """Believes that every change was made."""

    def attached(self, job: hv.Job, instance: hv.Instance, params: hv.Params, field: str) -> tuple[Any, str]:
        return self.read_spec(job.record.spec), "disk0"


@breaks("capability_sizes", "says that vcpus can change, without the ability")
class Promises(Full):
    def sizes(self, spec: Any) -> dict[str, range]:
        return {"vcpus": range(1, 3)}


def _with_disk(name: str, _directory: Path) -> hv.Instance:
    return hv.Instance(name=name, driver="good", disks=(hv.Disk(path="/srv/a.img"),))


WITH_DISK = replace(SUBJECT, instance=_with_disk)


class Tells(Full):
    """Claims to have one disk, whose cache can change."""

    def devices(self, spec: Any) -> dict[str, str]:
        return {"disk0": "disks[0]"}

    def modifiable(self, spec: Any, device: str) -> tuple[str, ...]:
        return ("cache",)

    def modified(self, job: hv.Job, instance: hv.Instance, device: str) -> Any:
        return self.read_spec(job.record.spec)


@breaks("capability_modify", "modify is claimed, but raises OperationError: .*the limiter is broken", subject=WITH_DISK)
class Unlimited(Tells):
    def modified(self, job: hv.Job, instance: hv.Instance, device: str) -> Any:
        raise hv.OperationError(f"{job.name}: the limiter is broken; repair it")


@breaks("capability_modify_interrupted", "a modify that was interrupted is finished", subject=WITH_DISK)
class NeverUndone(Tells):
    """Believes that every change was made, and so forgets what was asked for before."""


# ------------------------------------------------------------------------------------------------------------- time


@breaks("time_start", "takes .* ms, budget 300 ms", subject=replace(SUBJECT, budgets={"time_start": 0.3}))
class SlowStart(Good):
    def start(self, spec: Any, job: hv.Job) -> None:
        waste(0.6)
        super().start(spec, job)


@breaks("time_info", "takes .* ms, budget 50 ms")
class SlowInfo(Good):
    def observe(self, live: hv.Live) -> hv.Observation:
        waste(0.06)
        return super().observe(live)


@breaks("time_stop", "takes .* ms, budget 300 ms", subject=replace(SUBJECT, budgets={"time_stop": 0.3}))
class SlowStop(Good):
    def stop(self, live: hv.Live, job: hv.Job, *, force: bool) -> str:
        waste(0.35)
        return super().stop(live, job, force=force)
