"""The problems that an instance has only since it was changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from hvcore.errors import ParamsError, Problem
from hvcore.model.instance import Instance
from hvcore.model.nic import nic_problems
from hvcore.params.values import Params

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # imports pluggy and metadata

__all__ = ["refuse_new_problems", "relative"]


def refuse_new_problems(
    loaded: LoadedDriver, before: tuple[Instance, Params], after: tuple[Instance, Params], field: str
) -> None:
    """Raise `ParamsError` with the problems that only ``after`` has. An upgrade may have added others.

    ``field`` is the device that differs, such as ``disks[2]``.
    """
    old, new = _problems(loaded, *before), _problems(loaded, *after)
    found = [problem for problem in new if problem not in old]
    if found:
        raise ParamsError(after[0].name, relative(found, field))


def relative(problems: Iterable[Problem], field: str) -> list[Problem]:
    """The problems with the key of the device in place of its field: ``path`` for ``disks[2].path``."""
    return [replace(problem, path=problem.path.removeprefix(f"{field}.")) for problem in problems]


def _problems(loaded: LoadedDriver, instance: Instance, params: Params) -> list[Problem]:
    macs = [instance.mac(at) for at in range(len(instance.nics))]
    found = nic_problems(instance.nics, macs)
    return [*found, *loaded.hooks.gathered("check", Problem, instance=instance, params=params)]
