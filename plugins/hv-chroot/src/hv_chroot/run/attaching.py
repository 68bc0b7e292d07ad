"""The driver's methods for binds that come and go while the instance runs."""

from __future__ import annotations

import os
from abc import ABC
from collections.abc import Iterator
from dataclasses import replace

import hvcore.plugin as hv
from hv_chroot.families.root import Bind, is_within
from hv_chroot.names import BINDS, WAITS
from hv_chroot.resource import LiveBind
from hv_chroot.resources.left_out import mounts_left_out
from hv_chroot.resources.live_bind import hide, is_shown, something_at
from hv_chroot.run.confinement import site_of
from hv_chroot.spec import ChrootSpec, spec_of

__all__ = ["AttachesBinds"]

_FIELD = "params.binds"


class AttachesBinds(ABC):
    """The methods of `hvcore.plugin.Attaches` and ``ListsDevices``. A bind has the name of its target."""

    _hooks: hv.Hooks

    def devices(self, spec: ChrootSpec) -> dict[str, str]:
        """The binds."""
        return {bind.target: f"{_FIELD}[{at}]" for at, bind in enumerate(spec.binds)}

    def listed(self, spec: ChrootSpec) -> tuple[str, ...]:
        """The parameter with the binds."""
        return (_FIELD.removeprefix("params."),)

    def attached(self, job: hv.Job, instance: hv.Instance, params: hv.Params, field: str) -> tuple[ChrootSpec, str]:
        """The spec with the last bind of the parameters."""
        if not field.startswith(f"{_FIELD}["):
            key = "disk" if field.startswith("disks[") else "nic"
            what, todo = (
                "cannot be attached to a chroot while it runs",
                "attach a bind, or change the file and start again",
            )
            raise hv.VerifyError(job.name, [hv.Problem(path=key, what=what, todo=todo)])
        spec, bind = spec_of(job.record), Bind.of(params["binds"][-1])
        after = replace(spec, binds=(*spec.binds, bind))
        problems = [
            *self._hooks.kinds.problems((LiveBind.of(bind),), site_of(spec, job.host)),
            *(one for one in mounts_left_out(after) if one not in list(mounts_left_out(spec))),
            *_in_the_way(job, spec, bind),
        ]
        if problems:
            raise hv.VerifyError(job.name, problems)
        return after, bind.target

    def detached(self, job: hv.Job, device: str) -> ChrootSpec:
        """The spec without that bind."""
        spec = spec_of(job.record)
        if device not in job.record.bindings.get(BINDS, {}) and not job.record.bindings.get(WAITS):
            what = "was bound by an older hvcore, which did not note what it bound"
            raise hv.OperationError(f"{job.name}: {device!r} {what}; it stays until the instance stops")
        held = {entry.key for entry in job.record.ledger}
        if spec.users and LiveBind.of(_bind_of(spec, device)).key not in held and not job.record.bindings.get(WAITS):
            what = "was bound at the start of an instance with its own users, and the kernel keeps such a mount"
            raise hv.OperationError(f"{job.name}: {device!r} {what}; it stays until the instance stops")
        return replace(spec, binds=tuple(bind for bind in spec.binds if bind.target != device))

    def alter(self, job: hv.Job, *, before: ChrootSpec, after: ChrootSpec, device: str) -> None:
        """Mount the bind or unmount it. An instance that has not run yet gets its binds when it does."""
        if job.record.bindings.get(WAITS):
            return
        known = {target: found for target, found in job.record.bindings.get(BINDS, {}).items() if target != device}
        new = next((bind for bind in after.binds if bind.target == device), None)
        if new is None:
            job.progress(f"unmounting {device}")
            hide(job, device)
            job.release(LiveBind.of(_bind_of(before, device)).key)
            job.bind(**{BINDS: known})
        elif not is_shown(job, new):
            found = os.stat(new.source)
            job.progress(f"mounting {device}")
            job.bind(**{BINDS: {**known, device: [found.st_dev, found.st_ino]}})
            job.acquire(LiveBind.of(new))
            job.prove(LiveBind.of(new), level=job.held.site.level)

    def altered(self, job: hv.Job, *, before: ChrootSpec, after: ChrootSpec, device: str) -> bool:
        """What the mounts of its processes say."""
        new = any(bind.target == device for bind in after.binds)
        return bool(job.record.bindings.get(WAITS)) or is_shown(job, _bind_of(after if new else before, device)) is new


def _bind_of(spec: ChrootSpec, target: str) -> Bind:
    return next(bind for bind in spec.binds if bind.target == target)


def _in_the_way(job: hv.Job, spec: ChrootSpec, bind: Bind) -> Iterator[hv.Problem]:
    """A new mount must not cover another: a covered one could not be unmounted, and is not what was asked for."""
    covered = next((other.target for other in spec.binds if is_within(other.target, bind.target)), None)
    if covered is not None:
        what = f"would cover the bind at {covered!r}"
        yield hv.Problem(
            path="at", what=what, got=repr(bind.target), todo=f"detach {covered!r} first, or choose another"
        )
    elif something_at(job, bind.target):
        what = "has something mounted on it in the instance already"
        yield hv.Problem(path="at", what=what, got=repr(bind.target), todo="choose another place")
