"""The part of `Node` that changes the devices of running instances, and the password of a display."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

from hvcore.api.defining_node import DefiningNode
from hvcore.deadline import Deadline, checked_seconds
from hvcore.errors import HvError, InputError
from hvcore.model.devices import Disk, ListedDevice, Nic
from hvcore.operations.context import CallOptions

if TYPE_CHECKING:
    from hvcore.model.answers import Outcome

__all__ = ["ChangingDevices"]


class ChangingDevices(DefiningNode):
    """What `Node` does with the devices of an instance that runs. Operations are imported when they are called."""

    def attach(
        self,
        name: str,
        device: Disk | Nic | ListedDevice,
        *,
        params: Mapping[str, Any] | None = None,
        save: bool = False,
        deadline_s: float = 30.0,
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Attach a disk, a NIC or a device of a list to an instance that runs or is paused. The outcome has its name.

        ``params`` are values of the driver's parameters for this device alone, such as ``disk_type``. A reboot keeps the
        device; a stop and a start give the instance what its file describes. With ``save``, the device is written into the
        definition too; a note says so if that is not possible.
        ``changed=False`` if the instance has this disk, or a NIC with this MAC address and the same settings. Raises
        `ParamsError` and `VerifyError` before anything changes, and `OperationError` when it failed and was undone.
        """
        from hvcore.operations.devices.attach import attach  # noqa: PLC0415 - 32 ms

        context = self._context.for_call(name, "attach", options)
        self._refuse_undefined(name, save=save)
        outcome = attach(context, name, device, params=params or {}, deadline=Deadline(deadline_s))
        if not save or not outcome.changed:
            return outcome
        from hvcore.model.definitions.saved_device import with_device  # noqa: PLC0415 - 1 ms, for those who save

        row, defined = self._row(name, outcome.device or "", device), self.definitions.get(name).instance
        return self._saved(outcome, lambda text: with_device(text, defined, row) if defined else text)

    def detach(
        self,
        name: str,
        device: str,
        *,
        save: bool = False,
        deadline_s: float = 30.0,
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Take a device from an instance that runs or is paused, and free what it held. `InstanceInfo.devices` has the names.

        With ``save``, it is removed from the definition too; a note says so if that is not possible.

        A guest has to let a PCI device go. Raises `DeadlineError` if it does not in time: it still has the device then, and
        may let it go later. Another detach continues.
        """
        from hvcore.operations.devices.attach import detach  # noqa: PLC0415 - 32 ms

        self._refuse_undefined(name, save=save)
        row = self._row(name, device, None) if save else None
        context = self._context.for_call(name, "detach", options)
        outcome = detach(context, name, device, deadline=Deadline(deadline_s))
        if row is None:
            return outcome
        from hvcore.model.definitions.saved_device import without_device  # noqa: PLC0415 - as above

        defined = self.definitions.get(name).instance
        return self._saved(outcome, lambda text: without_device(text, defined, row) if defined else text)

    def _refuse_undefined(self, name: str, *, save: bool) -> None:
        if save and name not in self.definitions:
            what = f"{name}: has no definition to save the device in"
            raise InputError(f"{what}; 'hv define FILE' makes one, or leave out --save (save)")

    def _row(self, name: str, device: str, default: object) -> Any:
        """The disk, NIC or listed device of that name as the instance has it now: a NIC has got its MAC address."""
        info = self.info(name)
        key, _, at = info.devices.get(device, "").rstrip("]").partition("[")
        param = key.removeprefix("params.")
        if param != key and at.isdecimal():
            from hvcore.model.definitions.live_changes import items_of  # noqa: PLC0415 - for those who save

            return ListedDevice(param=param, item=items_of(self.instance(name).params.get(param))[int(at)])
        rows = getattr(info, key, ()) if key in {"disks", "nics"} else ()
        return rows[int(at)] if at.isdecimal() and int(at) < len(rows) else default

    def _saved(self, outcome: Outcome, edit: Callable[[str], str]) -> Outcome:
        try:
            self.definitions.change(outcome.name, edit)
        except HvError as error:
            return replace(outcome, notes=(*outcome.notes, f"its definition was not changed: {error}"))
        return outcome

    def insert(
        self,
        name: str,
        device: str,
        image: str | os.PathLike[str],
        *,
        save: bool = False,
        deadline_s: float = 30.0,
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Put an image into a CD-ROM or floppy drive of an instance that runs: an absolute path, or a URL.

        It replaces the image that is in the drive. A reboot keeps it; with ``save``, the definition has it too. Raises
        `VerifyError` for an image that cannot be used, and `OperationError` when the guest keeps the drive locked; it has the
        old image then.
        """
        from hvcore.operations.devices.media import change_medium  # noqa: PLC0415 - 32 ms

        self._refuse_undefined(name, save=save)
        context = self._context.for_call(name, "insert", options)
        outcome = change_medium(context, name, device, os.fspath(image), deadline=Deadline(deadline_s))
        return self._medium_saved(outcome, os.fspath(image)) if save else outcome

    def _medium_saved(self, outcome: Outcome, image: str | None) -> Outcome:
        from hvcore.model.definitions.saved_device import with_param  # noqa: PLC0415 - 1 ms, for those who save

        key = self.info(outcome.name).devices[outcome.device or ""].removeprefix("params.")
        return self._saved(outcome, lambda text: with_param(text, key, image))

    def eject(
        self,
        name: str,
        device: str,
        *,
        save: bool = False,
        deadline_s: float = 30.0,
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Empty a CD-ROM or floppy drive of an instance that runs. ``changed=False`` if it is empty. Raises as `insert`.

        With ``save``, the definition has no image for the drive, so a start gives the instance none.
        """
        from hvcore.operations.devices.media import change_medium  # noqa: PLC0415 - 32 ms

        self._refuse_undefined(name, save=save)
        context = self._context.for_call(name, "eject", options)
        outcome = change_medium(context, name, device, None, deadline=Deadline(deadline_s))
        return self._medium_saved(outcome, None) if save else outcome

    def resize_disk(
        self,
        name: str,
        device: str,
        size_bytes: int,
        *,
        shrink: bool = False,
        deadline_s: float = 30.0,
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Change the size of a disk of an instance that runs, and of its image; the guest sees the new size.

        Raises `InputError` for a smaller size without ``shrink``: what is at the end of the disk would be lost.
        """
        from hvcore.operations.devices.resize_disk import resize_disk  # noqa: PLC0415 - 32 ms

        context = self._context.for_call(name, "resize", options)
        return resize_disk(context, name, device, size_bytes, shrink=shrink, deadline=Deadline(deadline_s))

    def modify(
        self,
        name: str,
        device: str,
        values: Mapping[str, Any],
        *,
        save: bool = False,
        deadline_s: float = 30.0,
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Change settings of a device of an instance that runs, by their keys in an instance file; also after a reboot.

        `modifiable` lists the keys. None is the default of a key. With ``save``, the definition is changed too; a note says
        so if that is not possible. Raises `ParamsError` and `VerifyError` before anything changes, and `OperationError` for
        a key that cannot change now, or when the change failed and was undone.
        """
        from hvcore.operations.devices.modify import modify  # noqa: PLC0415 - 32 ms

        self._refuse_undefined(name, save=save)
        context = self._context.for_call(name, "modify", options)
        outcome = modify(context, name, device, values, deadline=Deadline(deadline_s))
        row = self._row(name, device, None) if save else None
        if row is None:
            return outcome
        from hvcore.model.definitions.saved_device import with_keys  # noqa: PLC0415 - 1 ms, for those who save

        defined = self.definitions.get(name).instance
        return self._saved(outcome, lambda text: with_keys(text, defined, row, tuple(values)) if defined else text)

    def modifiable(self, name: str, device: str) -> tuple[str, ...]:
        """The keys of a device that `modify` can change while the instance runs. Raises `InputError`, `NotFoundError`."""
        from hvcore.operations.devices.modify import modifiable  # noqa: PLC0415 - 32 ms

        return modifiable(self._context, name, device)

    def vnc_password(
        self,
        name: str,
        password: str,
        *,
        valid_s: float | None = None,
        deadline_s: float = 10.0,
        **options: Unpack[CallOptions],
    ) -> Outcome:
        """Set the password of the VNC display, for new connections; after ``valid_s`` seconds it lets no client in.

        It is in no record, log or command line. A reboot or a start takes the one in ``vnc_password_file`` again. Raises
        `InputError`, `NotFoundError`, `UnsupportedError`, `StateError`, and `OperationError` if the display was started
        without a password.
        """
        from hvcore.operations.access.screen import vnc_password  # noqa: PLC0415 - 32 ms

        seconds = None if valid_s is None else checked_seconds(valid_s, "valid_s")
        context = self._context.for_call(name, "vnc-password", options)
        return vnc_password(context, name, password, valid_s=seconds, deadline=Deadline(deadline_s))
