"""No value of any parameter, name or path becomes another option, and nothing that is wrong ends in a traceback.

The command line is read back by `qemu_syntax`, which shares nothing with the code that wrote it.
"""

from __future__ import annotations

import os
import re
import shlex
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qemu_syntax import KEYS, NONE, PLAIN, Read, only, read, read_keys

import hvcore
import hvcore.plugin
from hv_kvm.machine.facts import Facts, MachineType
from hv_kvm.machine.option import Opt
from hv_kvm.machine.render import render
from hv_kvm.machine.resource import Image
from hv_kvm.qemu.accelerator import Accel
from hv_kvm.run.startup.describe import symbols
from hvcore import ParamsError
from hvcore.plugin import ControlGroups, Host, Level, Site
from hvcore.plugins.loaded_driver import LoadedDriver
from hvcore.plugins.loader import load

pytestmark = pytest.mark.heavy  # thousands of generated instances

FACTS: Final = Facts(
    version="7.2.0",
    package="",
    commands=frozenset(),
    options={"sandbox": frozenset()},
    machines=(MachineType(name="pc-i440fx-7.2", alias="pc", deprecated=False, is_default=True, cpu_max=255),),
    types=frozenset(),
    cpu_models=frozenset(),
    cpu_features=frozenset(),
    block_drivers=frozenset(),
    aio=frozenset(),
    kvm_present=False,
    kvm_enabled=False,
)
KVM: Final = load("kvm")
HOST: Final = Host(run_dir=Path("/run/hvcore"), privileged=True, uid_pool=range(1), cgroups=ControlGroups())
SETTINGS: Final = settings(suppress_health_check=list(HealthCheck))


def tokens(instance: hvcore.Instance, level: Level = Level.STRICT, kvm: LoadedDriver = KVM) -> list[str]:
    spec = kvm.driver.plan(instance, kvm.check(instance))
    arguments = render(
        kvm.hooks,
        spec,
        FACTS,
        symbols(kvm.hooks, spec, Site(name=spec.name, host=HOST, level=level, pure=True), Accel("tcg", "")),
    )
    return [token for argument in arguments for token in argument.tokens]


def options_of(instance: hvcore.Instance, level: Level = Level.STRICT) -> Read:
    return read(tokens(instance, level))


AWKWARD: Final = st.sampled_from(
    [",", ",,", "=", ",id=x", " ", "\n", '"', "'", "\\", ":", "%", "-", "#", "ä", "\udcff"]
)
COMPONENTS: Final = st.one_of(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20),
    st.lists(AWKWARD, min_size=1, max_size=6).map("".join),
    st.text("ab,=", min_size=1, max_size=12),
).filter(lambda part: part not in {".", ".."} and len(part.encode("utf-8", "surrogateescape")) < 256)
PATHS: Final = st.lists(COMPONENTS, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
URLS: Final = st.builds(
    lambda scheme, parts: f"{scheme}://192.0.2.1/{'/'.join(parts)}",
    st.sampled_from(["http", "https", "ftp"]),
    st.lists(st.one_of(COMPONENTS, st.text("ab,=;%&", min_size=1, max_size=12)), min_size=1, max_size=3),
)
VOLUMES: Final = st.text("ab,=;", min_size=1, max_size=9).map(lambda part: f"gluster://h/vol/{part}")
LABELS: Final = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=20)
NAMES: Final = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
JUNK: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.lists(AWKWARD).map("".join),
    st.binary(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.just("x" * 5000),
    st.just("-drive"),
)
# For each parameter values that are always right. A new parameter needs a row.
ADDRESSES: Final = st.sampled_from(["127.0.0.1", "::1", "0.0.0.0", "lo", "br-lan.7"])
RIGHT: Final[dict[str, st.SearchStrategy[Any]]] = {
    "kvm_path": PATHS,
    "kvm_flag": st.sampled_from(["enabled", "disabled"]),
    "machine_version": st.sampled_from(["pc", "q35", "pc-i440fx-7.2"]),
    "acpi": st.booleans(),
    "reboot_behavior": st.sampled_from(["reboot", "exit"]),
    "confinement": st.sampled_from(["auto", "strict", "user", "off"]),
    "cpu_type": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}(,[+-][a-z0-9]{1,8}){0,1}", fullmatch=True),
    "cpu_cores": st.sampled_from([0, 1, 2]),
    "cpu_threads": st.sampled_from([0, 1]),
    "cpu_sockets": st.sampled_from([0, 1]),
    "boot_order": st.sampled_from(["disk", "cdrom", "network"]),
    "kernel_path": PATHS,
    "initrd_path": PATHS,
    "root_path": st.from_regex(r"/dev/[a-z0-9,=/]{1,20}", fullmatch=True),
    "kernel_args": st.text(string.printable.replace("\n", "").strip(), max_size=60),
    "serial_console": st.booleans(),
    "serial_speed": st.sampled_from([9600, 115200]),
    "use_localtime": st.booleans(),
    "disk_type": st.sampled_from(["paravirtual", "ide"]),
    "disk_cache": st.sampled_from(["default", "none", "writeback", "writethrough"]),
    "disk_aio": st.sampled_from(["threads", "native", "io_uring"]),
    "disk_discard": st.sampled_from(["ignore", "unmap"]),
    "cdrom_image_path": st.one_of(PATHS, URLS),
    "nic_type": st.sampled_from(["paravirtual", "e1000", "rtl8139"]),
    "vhost_net": st.booleans(),
    "virtio_net_queues": st.integers(1, 32),
    "vnet_hdr": st.booleans(),
    "vnc_bind_address": st.one_of(PATHS, ADDRESSES),
    "vnc_port": st.integers(5900, 65535),
    "vnc_tls": st.booleans(),
    "vnc_x509_path": PATHS,
    "vnc_x509_verify": st.booleans(),
    "vnc_password_file": PATHS,
    "keymap": st.sampled_from(["de", "en-us", "tr"]),
    "spice_bind": ADDRESSES,
    "spice_port": st.integers(1, 65535),
    "spice_ip_version": st.sampled_from([0, 4, 6]),
    "spice_password_file": PATHS,
    "spice_image_compression": st.sampled_from(["auto_glz", "off"]),
    "spice_jpeg_wan_compression": st.sampled_from(["always", "never"]),
    "spice_zlib_glz_wan_compression": st.sampled_from(["always", "never"]),
    "spice_streaming_video": st.sampled_from(["all", "off"]),
    "spice_playback_compression": st.booleans(),
    "spice_use_tls": st.booleans(),
    "spice_x509_path": PATHS,
    "spice_tls_ciphers": st.from_regex("[A-Za-z0-9:+!@=_.-]{1,20}", fullmatch=True),
    "spice_use_vdagent": st.booleans(),
    "security_model": st.sampled_from(["auto", "none", "user", "pool"]),
    "security_domain": st.from_regex("[A-Za-z0-9_][A-Za-z0-9_.+-]{0,20}", fullmatch=True),
    "use_chroot": st.booleans(),
    "migration_port": st.integers(1, 65535),
    "migration_bandwidth": st.integers(0, 1 << 20),
    "migration_downtime": st.integers(0, 2_000_000),
    "migration_mode": st.sampled_from(["live", "non-live"]),
    "migration_caps": st.lists(st.sampled_from(["xbzrle", "events", "auto-converge"]), unique=True, max_size=3),
    "user_shutdown": st.booleans(),
}


def from_the_type(param: hvcore.plugin.Param) -> st.SearchStrategy[Any]:
    """Right values of a parameter without a row above."""
    schema = param.type.json_schema()
    if param.type.kind == "one of":
        return st.sampled_from(list(param.type.choices))
    if schema.get("type") == "boolean":
        return st.booleans()
    if schema.get("type") == "integer":
        return st.integers(schema["minimum"], schema["maximum"])
    if param.type.node_check is not None:
        return PATHS
    return st.sampled_from([value for value in (param.example, param.default) if value is not None])


RIGHT.update({key: from_the_type(param) for key, param in KVM.schema.params.items() if key not in RIGHT})


MACS: Final = st.sampled_from([{}, {"mac": "aa:00:00:4b:c1:01"}, {"mac": "AA:00:00:4B:C1:02"}])
NICS: Final = st.builds(
    lambda mode, mac: {**mode, **mac}, st.sampled_from([{}, {"mode": "user"}, {"mode": "bridged", "link": "br0"}]), MACS
)
DISKS: Final = st.fixed_dictionaries(
    {"path": st.one_of(PATHS, VOLUMES)},
    optional={
        "read_only": st.booleans(),
        "format": st.sampled_from(["raw", "qcow2"]),
        "cache": st.sampled_from(["none", "writeback"]),
        "discard": st.sampled_from(["ignore", "unmap"]),
    },
)
# Values that others need: without them almost every drawn instance would be refused.
GROUNDS: Final = st.sampled_from(
    [
        {},
        {"spice_bind": "127.0.0.1"},
        {"spice_bind": "127.0.0.1", "spice_use_tls": True, "spice_x509_path": "/pki"},
        {"vnc_bind_address": "::1", "vnc_tls": True},
        {"boot_firmware": "uefi", "uefi_vars_path": "/srv/vars.fd", "machine_version": "q35"},
        {"tpm_version": "2.0", "tpm_state_path": "/srv/tpm"},
        {"disk_type": "scsi-hd", "scsi_controller_type": "virtio-scsi-pci", "iothreads": 1},
        {"confinement": "off"},
    ]
)


def instances(params: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "name": NAMES,
            "driver": st.just("kvm"),
            "memory_mib": st.integers(1, 1 << 20),
            "vcpus": st.sampled_from([1, 2]),
            "disks": st.lists(DISKS, max_size=3),
            "nics": st.lists(NICS, max_size=2),
            "params": st.builds(lambda ground, more: {**more, **ground}, GROUNDS, params),
        }
    )


def accepted(data: dict[str, Any]) -> dict[str, Any]:
    """The instance without the values that problems name. Otherwise almost every instance would be refused."""
    while problems := refused(data):
        text = " ".join(problems)
        params = {key: value for key, value in data["params"].items() if key not in text}
        places: dict[str, list[Any]] = {
            key: [] for key in ("disks", "nics") if any(it.startswith(key) for it in problems)
        }
        if params == data["params"] and not any(data[key] for key in places):
            params.popitem()  # something is missing, and what needs it has another name
        data = {**data, **places, "params": params}
    return data


def refused(data: dict[str, Any]) -> list[str]:
    try:
        tokens(made(data))
    except ParamsError as error:
        return [str(problem) for problem in error.problems]
    return []


def made(data: dict[str, Any]) -> hvcore.Instance:
    instance: hvcore.Instance | None
    instance, problems = hvcore.model.instance.read_instance(data)  # type: ignore[attr-defined]
    assert instance is not None, problems
    return instance


CHOSEN: Final = {key for key, param in KVM.schema.params.items() if param.type.kind == "one of"}
DRAWN: Final = instances(st.fixed_dictionaries({}, optional=RIGHT)).map(accepted)


@SETTINGS
@given(DRAWN, st.sampled_from([Level.STRICT, Level.OFF]))
def test_an_accepted_value_is_read_back_unchanged(data: dict[str, Any], level: Level) -> None:
    instance = made(data)
    options = options_of(instance, level)
    params = KVM.check(instance)
    assert only(options, "-name") == {"guest": data["name"], "debug-threads": "on"}
    most = params["memory_max"] if (params["memory_max"] or 0) > data["memory_mib"] else None
    size = {"size": f"{data['memory_mib']}M"}
    assert only(options, "-m") == (size if most is None else {**size, "maxmem": f"{most}M"})
    given = [nic["mac"].lower() for nic in data["nics"] if "mac" in nic]
    cards = [value["mac"].lower() for _, value in options if isinstance(value, dict) and "mac" in value]
    assert set(given) <= set(cards)
    assert len(cards) == len(data["nics"])
    if params["kernel_path"]:
        assert only(options, "-kernel") == (params["kernel_path"] if level is Level.OFF else "/kernel")
        assert params["kernel_args"] in only(options, "-append")
    if params["initrd_path"]:
        assert only(options, "-initrd") == (params["initrd_path"] if level is Level.OFF else "/initrd")
    assert {option for option, _ in options} <= NONE | PLAIN | set(KEYS)
    assert [1 for option, _ in options if option == "-sandbox"] == ([1] if level is not Level.OFF else [])


@SETTINGS
@given(DRAWN, st.sampled_from([Level.STRICT, Level.OFF]))
def test_no_value_changes_the_shape_of_the_command_line(data: dict[str, Any], level: Level) -> None:
    """The same instance with harmless words for all that is free text has the same options with the same keys."""
    given = tokens(made(data), level)
    assert shape(read(given)) == shape(options_of(made(tamed(data)), level))
    assert [token for token in given if b"\0" in os.fsencode(token)] == []


def shape(options: Read) -> list[tuple[str, object]]:
    return [(option, sorted(value) if isinstance(value, dict) else value is None) for option, value in options]


def tamed(data: dict[str, Any]) -> dict[str, Any]:
    plain = {"kernel_args": "quiet", "root_path": "/dev/vda1", "security_domain": "guest", "spice_tls_ciphers": "HIGH"}
    given = enumerate(data["params"].items())
    params = {
        key: plain.get(key, tame(value, number) if key not in CHOSEN else value) for number, (key, value) in given
    }
    disks = [{**disk, "path": tame(disk["path"], number)} for number, disk in enumerate(data["disks"])]
    return {**data, "name": "web1", "params": params, "disks": disks}


def tame(value: Any, number: int) -> Any:
    """Another path or URL of the same kind."""
    kind = re.match("(/|[a-z]+://[^/]+/(vol/)?)", value) if isinstance(value, str) else None
    return f"{kind[0]}tame{number}" if kind else value


@SETTINGS
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.text(max_size=9), min_size=1), st.text("ab,", min_size=1, max_size=9)
)
def test_an_option_is_read_as_it_was_made(props: dict[str, str], head: str) -> None:
    (_, text) = Opt(name="-device", head=head, props=props).argv
    assert read_keys(text, "driver") == {"driver": head, **props}


@SETTINGS
@given(
    st.lists(st.one_of(st.text(max_size=12), st.sampled_from(["-device", "a,id=b", "'", '"', "--", "-"])), max_size=5)
)
def test_extra_arguments_are_last_and_change_nothing_before_them(words: list[str]) -> None:
    text = " ".join(words)
    bare = tokens(hvcore.Instance(name="web1", driver="kvm"))
    try:
        found = tokens(hvcore.Instance(name="web1", driver="kvm", params={"kvm_extra": text or None}))
    except ParamsError:
        return
    assert found == bare + shlex.split(text)


NODE: Final = hvcore.Node("/nonexistent/run", config_dir="/nonexistent/etc")
NEARLY: Final = st.one_of(
    JUNK,
    NAMES.map(lambda name: f"-{name}"),
    st.builds(lambda text, awkward, more: text + awkward + more, NAMES, AWKWARD, NAMES),
    PATHS.map(lambda path: path[1:]),
    st.just("a" * 254),
    st.just("\ud800"),
)
FIELDS: Final = ("name", "uuid", "profile", "memory_mib", "vcpus", "driver", "params", "disks", "nics", "extra")
PARTS: Final = {
    "disks": ["path", "read_only", "format", "cache", "aio", "discard", "boot_index"],
    "nics": ["mode", "mac", "link", "boot_index"],
}


@SETTINGS
@given(st.data())
def test_any_input_gives_options_or_problems(data: st.DataObject) -> None:
    """The input of a program: a mapping of anything. Every problem is one line that a terminal can show."""
    given = data.draw(
        instances(st.fixed_dictionaries({}, optional={key: st.one_of(right, NEARLY) for key, right in RIGHT.items()}))
    )
    for field, parts in PARTS.items():
        for item in given[field]:
            item.update(data.draw(st.dictionaries(st.sampled_from([*parts, "extra"]), NEARLY, max_size=2)))
    given |= data.draw(st.dictionaries(st.sampled_from(FIELDS), NEARLY, max_size=2))
    assert [line for line in problems_of(given) if not line.isprintable()] == []


def problems_of(data: Mapping[str, Any]) -> list[str]:
    try:
        tokens(NODE.check(data))
    except ParamsError as error:
        return [str(problem) for problem in error.problems]
    except hvcore.UnknownDriverError as error:
        return [str(error)]
    return []


# Each is wrong in every instance: the path of its problem, the field and the value.
FAULTS: Final[dict[str, tuple[str, Any]]] = {
    "name": ("name", "-web1"),
    "memory_mib": ("memory_mib", 0),
    "vcpus": ("vcpus", 1.5),
    "uuid": ("uuid", "x"),
    "extra": ("extra", 1),
    "disks[0].path": ("disks", [{"path": "relative"}]),
    "nics[0].mac": ("nics", [{"mac": "01:00:5e:00:00:01"}]),
    **{f"params.{key}": (f"params.{key}", [b"wrong"]) for key in RIGHT},
    "params.no_such": ("params.no_such", 1),
}


@SETTINGS
@given(st.lists(st.sampled_from(sorted(FAULTS)), min_size=2, max_size=8, unique=True))
def test_all_problems_are_reported_together(places: list[str]) -> None:
    given: dict[str, Any] = {"name": "web1", "driver": "kvm", "params": {}}
    for place in places:
        field, value = FAULTS[place]
        (given["params"] if field.startswith("params.") else given)[field.removeprefix("params.")] = value
    with pytest.raises(ParamsError) as caught:
        NODE.check(given)
    assert {problem.path for problem in caught.value.problems} == set(places)


@pytest.mark.parametrize(
    ("text", "implied", "keys"),
    [
        ("a,,b", "x", {"x": "a,b"}),
        ("a,b=c,,d,e=f=g", "x", {"x": "a", "b": "c,d", "e": "f=g"}),
        ("a=,,,b=1", None, {"a": ",", "b": "1"}),
    ],
)
def test_the_reader_itself_reads_what_qemu_reads(text: str, implied: str | None, keys: dict[str, str]) -> None:
    assert read_keys(text, implied) == keys


@pytest.mark.parametrize("kind", ["char", "", "Image"])
def test_an_unknown_kind_of_file_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="must_be: must be one of image, block, sg, got"):
        Image(key="disk0", path="/x", fdset=1, write=True, claim=True, must_be=kind)
