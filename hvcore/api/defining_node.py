"""The part of `Node` that knows what the node should have: its definitions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from hvcore.api.reading_node import ReadingNode
from hvcore.deadline import Deadline, checked_seconds
from hvcore.errors import HvError, NotFoundError
from hvcore.model.observation import InstanceInfo
from hvcore.model.state import State
from hvcore.operations.context import CallOptions

if TYPE_CHECKING:
    from hvcore.api.node_definitions import Definitions
    from hvcore.model.answers import Outcome
    from hvcore.model.definitions.definition import Definition
    from hvcore.model.definitions.pending import PendingChange
    from hvcore.model.instance import Instance
    from hvcore.model.upgrade import UpgradeCheck
    from hvcore.operations.definitions.apply import Applied

__all__ = ["DefiningNode"]


class DefiningNode(ReadingNode):
    """What `Node` can do with all of its instances, those included that are defined and stopped."""

    _definitions_dir: Path

    def check(self, data: object, *, directory: str | os.PathLike[str] | None = None) -> Instance:
        """The instance in the plain data. `Node` has it."""
        raise NotImplementedError

    def _absolute(self, data: Mapping[str, Any], directory: str) -> dict[str, Any]:
        raise NotImplementedError

    @property
    def definitions(self) -> Definitions:
        """The instances that this node should have, each a file in ``instances`` of ``config_dir``.

        Without ``config_dir``, those of a user other than root are in hvcore/instances of ``XDG_CONFIG_HOME``.
        """
        from hvcore.api.node_definitions import Definitions  # noqa: PLC0415 - 20 ms, for those who use them
        from hvcore.operations.definitions.define import Checks  # noqa: PLC0415 - as above

        checks = Checks(check=lambda data, directory: self.check(data, directory=directory), absolute=self._absolute)
        return Definitions(self._context, self._definitions_dir, checks)

    def instances(self, *, defined: bool = False) -> list[InstanceInfo]:
        """Every instance with state on this node, sorted by name. Takes no lock and does not wait.

        With ``defined`` also the defined ones that are stopped, and ``autostart`` is known. A definition that cannot be
        used is among them, with its problem as ``reason``.
        """
        found = super().instances()
        if not defined:
            return found
        entries = {entry.name: entry for entry in self.definitions.entries()}
        there = {one.name for one in found}
        known = [replace(one, autostart=entries[one.name].autostart) if one.name in entries else one for one in found]
        stopped = [_stopped(entry) for name, entry in entries.items() if name not in there]
        return sorted([*known, *stopped], key=lambda one: one.name)

    def info(self, name: str) -> InstanceInfo:
        """One instance, ``stopped`` if it is only defined. Raises `NotFoundError`."""
        defined = os.path.lexists(self._definitions_dir / f"{name}.toml") if "/" not in name else False
        try:
            found = super().info(name)
        except NotFoundError:
            if not defined:
                raise
            return _stopped(self.definitions.get(name))
        if not defined:
            return found
        from hvcore.host.definition_files import DefinitionFiles  # noqa: PLC0415 - as in `definitions`
        from hvcore.operations.definitions.define import starts  # noqa: PLC0415 - as above

        return replace(found, autostart=starts(DefinitionFiles(self._definitions_dir), name))

    def stop_all(
        self,
        *,
        force: bool = False,
        deadline_s: float = 60.0,
        done: Callable[[str, Outcome | HvError], None] = lambda _name, _outcome: None,
        **options: Unpack[CallOptions],
    ) -> dict[str, Outcome | HvError]:
        """Stop every instance of this node, many at a time: its outcome, or why it could not be stopped, by name.

        ``deadline_s`` is for all together. Guests that have not shut down then are powered off. ``done`` is called in this
        thread when an instance is done. Raises nothing for one instance; `NodeError` if they cannot be listed.
        """
        from hvcore.operations.lifecycle.stop_all import stop_all  # noqa: PLC0415 - 32 ms, as in `Node`

        return stop_all(self._context, force=force, deadline=Deadline(deadline_s), done=done, options=options)

    def upgrade_checks(self, program: str, *names: str, driver: str = "kvm") -> Iterator[UpgradeCheck]:
        """What that program, such as another QEMU, would change for the instances that run or are defined. Changes nothing.

        Each answer comes when it is known, sorted by name. Raises `NotFoundError` for a name of none of them,
        `UnsupportedError`, `UnknownDriverError`.
        """
        from hvcore.operations.inspection.upgrade_checks import upgrade_checks  # noqa: PLC0415 - for those who ask

        return upgrade_checks(self._context, driver, program, self.definitions.entries(), names)

    def changes(self, name: str, defined: Instance | None = None) -> tuple[PendingChange, ...]:
        """What differs between the running instance and its definition, or that ``defined``; when each takes effect.

        Without ``defined`` and without a definition, the file that it was started from counts. Raises `NotFoundError`,
        `StateError` if it is stopped, and `InputError` if the definition does not pass or is missing.
        """
        from hvcore.operations.definitions.changes import changes  # noqa: PLC0415 - as above

        if defined is None and name in self.definitions:
            defined = self.definitions.instance(name)
        return changes(self._context, name, defined)

    def apply(
        self, name: str, defined: Instance | None = None, *, deadline_s: float = 30.0, **options: Unpack[CallOptions]
    ) -> tuple[Applied, ...]:
        """Make those changes happen that `changes` reports with effect ``now``, each by its own operation.

        ``defined`` is as in `changes`. Devices are detached, modified and attached, media changed, then memory and
        processors. A change that fails does not stop the others: its result has the error. ``deadline_s`` is for each change.
        Another call continues. Raises as `changes` does.
        """
        from hvcore.operations.definitions.apply import apply  # noqa: PLC0415 - as above

        if defined is None and name in self.definitions:
            defined = self.definitions.instance(name)
        context = self._context.for_call(name, "apply", options)
        return apply(context, name, defined, deadline_s=checked_seconds(deadline_s))


def _stopped(entry: Definition) -> InstanceInfo:
    instance = entry.instance
    return InstanceInfo(
        name=entry.name,
        driver=entry.driver or "unknown",
        state=State.STOPPED,
        reason=entry.problem,
        source=entry.file,
        uuid=None if instance is None else instance.uuid,
        vcpus=None if instance is None else instance.vcpus,
        memory_mib=None if instance is None else instance.memory_mib,
        disks=() if instance is None else instance.disks,
        nics=()
        if instance is None
        else tuple(replace(nic, mac=instance.mac(at)) for at, nic in enumerate(instance.nics)),
        autostart=entry.autostart,
    )
