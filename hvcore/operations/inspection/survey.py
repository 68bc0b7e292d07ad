"""The node as a whole: its machine, what its instances have of it, and its drivers. Changes nothing."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from hvcore._version import __version__
from hvcore.errors import HvError
from hvcore.host.machine import Machine, read_machine
from hvcore.model.instance import Instance
from hvcore.model.node_facts import DriverFacts, NodeFacts
from hvcore.model.state import ACTIVE
from hvcore.operations.context import Context
from hvcore.operations.inspection.info import infos
from hvcore.params.values import Params
from hvcore.plugins.catalogue import CatalogueEntry, Verdict, catalogue
from hvcore.plugins.loaded_driver import LoadedDriver
from hvcore.plugins.protocols import HasVersion, capabilities

__all__ = ["survey"]


def survey(context: Context, config_dir: Path, *, drivers: bool) -> NodeFacts:
    """The facts. With ``drivers``, every driver is loaded; one that cannot be used has a problem."""
    machine, running = read_machine(), [one for one in infos(context) if one.state in ACTIVE]
    return NodeFacts(
        name=platform.node(),
        hvcore=__version__,
        kernel=platform.release(),
        load=tuple(round(load, 2) for load in os.getloadavg()),
        instances=len(running),
        instances_vcpus=sum(one.vcpus or 0 for one in running),
        instances_memory_mib=sum(one.memory_mib or 0 for one in running),
        instances_resident_mib=sum(one.resident_mib or 0 for one in running),
        files=tuple(_files_of(config_dir)),
        drivers=tuple(_driver(context, entry) for entry in catalogue()) if drivers else (),
        **{field.name: getattr(machine, field.name) for field in fields(Machine)},
    )


def _files_of(config_dir: Path) -> Iterator[str]:
    """The files with the node's values and profiles."""
    for path in (config_dir / "node.toml", *sorted((config_dir / "profiles").glob("*.toml"))):
        if path.is_file():
            yield str(path)


def _driver(context: Context, entry: CatalogueEntry) -> DriverFacts:
    known: dict[str, Any] = {"name": entry.name, "distribution": entry.distribution, "version": entry.version}
    if entry.verdict is not Verdict.OK:
        return DriverFacts(**known, problem=entry.reason or str(entry.verdict))
    try:
        loaded = context.driver(entry.name)
        params = _node_params(context, loaded)
        hypervisor = None if params is None else _hypervisor(context, loaded, params)
    except (HvError, OSError) as error:
        return DriverFacts(**known, problem=str(error))
    files = () if params is None else _shared_files(loaded, params)
    problem = "its values in node.toml are wrong; see 'hv doctor'" if params is None else None
    can = capabilities(loaded.driver)
    return DriverFacts(**known, hypervisor=hypervisor, capabilities=can, files=files, problem=problem)


def _node_params(context: Context, loaded: LoadedDriver) -> Params | None:
    """The values that an instance on this node has if it sets none; None if the node's values are wrong."""
    layers = context.layers(Instance(name="none", driver=loaded.name))
    params, problems = loaded.schema.problems({}, below=layers.below)
    return None if problems or layers.problems else params


def _shared_files(loaded: LoadedDriver, params: Params) -> tuple[str, ...]:
    """The files and directories that those values name."""
    given = (params[key] for key in loaded.schema.path_keys)
    found = {path for value in given for path in (value if isinstance(value, tuple) else (value,))}
    return tuple(sorted(path for path in found if isinstance(path, str) and path.startswith("/")))


def _hypervisor(context: Context, loaded: LoadedDriver, params: Params) -> str | None:
    driver = loaded.driver
    if not isinstance(driver, HasVersion):
        return None
    try:
        return str(driver.version(context.host, params))
    except (HvError, OSError):
        raise
    except Exception as error:
        what = f"driver {loaded.name}: version raised {type(error).__name__}: {error}; report this to its authors"
        raise HvError(what) from error
