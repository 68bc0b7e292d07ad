"""The check of an instance's parameters, which host applications run often, for every instance."""

from __future__ import annotations

import tempfile
import timeit
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import hvcore
import hvcore.plugin as hv
from benchmarks.measure import Goal, Report, Row, alternate

__all__ = ["checks"]

_LOOPS: Final = 2000
_PARAMS: Final = {
    "kvm_flag": "enabled",
    "cpu_type": "host",
    "boot_order": "disk",
    "disk_type": "paravirtual",
    "disk_cache": "none",
    "disk_aio": "native",
    "serial_console": True,
    "serial_speed": 115200,
    "vnc_bind_address": "127.0.0.1",
    "use_localtime": False,
}


def checks(repeat: int) -> Iterator[Report]:
    """One report."""
    with tempfile.TemporaryDirectory() as directory:
        kvm = hvcore.Node(Path(directory, "run")).driver("kvm")
        disk, nic = hvcore.Disk(path="/srv/web1.img"), hvcore.Nic(mode="user")
        instance = hvcore.Instance(
            name="web1", driver="kvm", memory_mib=512, vcpus=2, disks=(disk,), nics=(nic,), params=_PARAMS
        )
        params = dict(instance.params)
        candidates = {
            "schema": lambda: _each_us(lambda: kvm.schema.check(params, "web1")),
            "check": lambda: _each_us(lambda: kvm.check(instance)),
        }
        notes = [
            f"each sample is the mean of {_LOOPS} calls; the check includes the node's layers and the rules between values"
        ]
        validate = _pydantic(kvm.schema)
        if validate is None:
            notes.append("not compared with pydantic-core, which is not installed: pip install 'hvcore[bench]'")
        else:
            candidates["pydantic-core"] = lambda: _each_us(lambda: validate(params))
        found = alternate(candidates, repeat=repeat)
    rival = Row(name="pydantic-core", samples=found["pydantic-core"], unit="us") if validate else None
    goal = Goal(1, ratio=True) if rival else None
    schema = Row(name="the schema alone", samples=found["schema"], unit="us", against=rival, goal=goal)
    check = Row(name="DriverHandle.check", samples=found["check"], unit="us", against=schema, goal=Goal(10))
    title = f"check of a kvm instance with {len(_PARAMS)} of {len(kvm.schema.params)} parameters set"
    return iter([Report(title=title, rows=[*([rival] if rival else []), schema, check], notes=notes)])


def _pydantic(schema: Any) -> Callable[[Mapping[str, object]], object] | None:
    """pydantic-core's check of the same mapping: the same keys, limits and defaults, unknown keys refused.

    It uses its own types where JSON Schema describes a type completely. For the others (addresses, paths, texts in
    bytes) it calls our functions, because a program with pydantic-core would have to write such functions.
    """
    try:
        from pydantic_core import SchemaValidator, core_schema  # noqa: PLC0415 - may be missing
    except ImportError:
        return None
    fields = {
        key: core_schema.typed_dict_field(
            core_schema.with_default_schema(
                core_schema.nullable_schema(_core(param.type)) if param.optional else _core(param.type),
                default=param.default,
            ),
            required=False,
        )
        for key, param in schema.params.items()
    }
    return SchemaValidator(core_schema.typed_dict_schema(fields, extra_behavior="forbid")).validate_python


def _core(kind: hv.ParamType) -> Any:
    from pydantic_core import core_schema  # noqa: PLC0415 - as above

    schema = kind.json_schema()
    if kind.kind == "one of":
        return core_schema.literal_schema(list(kind.choices))
    if kind.kind == "boolean":
        return core_schema.bool_schema(strict=True)
    if kind.kind in {"integer", "port"}:
        return core_schema.int_schema(strict=True, ge=schema["minimum"], le=schema["maximum"])
    return core_schema.no_info_plain_validator_function(kind.parse)


def _each_us(work: Callable[[], object]) -> float:
    return timeit.timeit(work, number=_LOOPS) / _LOOPS * 1e6
