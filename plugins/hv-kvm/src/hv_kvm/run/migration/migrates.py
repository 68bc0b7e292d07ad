"""The driver's methods for guests that move to another node."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import hvcore.plugin as hv
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.run.migration import arriving, landing, offering, refusals, sending
from hv_kvm.run.migration.progress import transfer

__all__ = ["MovesGuests"]


class MovesGuests(ABC):
    """The methods of `hvcore.plugin.Migrates`."""

    _hooks: hv.Hooks

    @abstractmethod
    def read_spec(self, data: object) -> KvmSpec:
        """The machine in a record."""

    @abstractmethod
    def guest_abi(self, spec: KvmSpec, host: hv.Host) -> hv.Abi:
        """What a guest sees of its machine."""

    def offer(self, live: hv.Live) -> hv.Offer:
        """The guest with what its parameters say about migrations."""
        spec = self.read_spec(live.record.spec)
        return offering.offered(live, spec, self.guest_abi(spec, live.host))

    def refusals(self, spec: KvmSpec, host: hv.Host, offer: hv.Offer, wish: hv.LandingWish) -> Iterable[hv.Problem]:
        """Another machine, capabilities that QEMU lacks, what the guest has of the source."""
        return refusals.refusals_of(spec, host, offer, wish, self.guest_abi(spec, host))

    def land(self, spec: KvmSpec, job: hv.Job, offer: hv.Offer, wish: hv.LandingWish) -> hv.Landing:
        """Start QEMU, which waits for the guest, and the relay, which waits for the source."""
        return landing.land(self._hooks, spec, job, offer, wish)

    def send(self, live: hv.Live, job: hv.Job, landing: hv.Landing, mode: str, tuning: hv.Tuning) -> None:
        """Start the relay and the migration."""
        sending.send(job, landing, mode, tuning)

    transfer = staticmethod(transfer)

    def tune_transfer(self, live: hv.Live, job: hv.Job, tuning: hv.Tuning) -> None:
        """Set bandwidth and downtime."""
        sending.tune_transfer(job, tuning)

    def continue_transfer(self, live: hv.Live, job: hv.Job) -> None:
        """Send the guest when its disks are copied, and end the copies when it has stopped."""
        sending.continue_transfer(job)

    def cancel_transfer(self, live: hv.Live, job: hv.Job) -> None:
        """Cancel, and wait until QEMU has."""
        sending.cancel_transfer(job)

    def switch_to_postcopy(self, live: hv.Live, job: hv.Job) -> None:
        """Switch, and wait until QEMU has."""
        sending.switch_to_postcopy(job)

    def run_landed(self, live: hv.Live, job: hv.Job) -> None:
        """Let the guest run."""
        arriving.run_landed(job)
