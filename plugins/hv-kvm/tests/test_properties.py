"""No value of any parameter, name or path becomes another option, and nothing that is wrong ends in a traceback.

The command line is read back by `qemu_syntax`, which shares nothing with the code that wrote it.
"""

from __future__ import annotations

import contextlib
import string
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qemu_syntax import KEYS, NONE, PLAIN, Read, devices, only, read, read_keys

import hvcore
from hv_kvm.describe import symbols
from hv_kvm.facts import Facts, MachineType
from hv_kvm.node import Accel
from hv_kvm.render import render
from hvcore import Level, ParamsError
from hvcore.loader import LoadedDriver, load

FACTS: Final = Facts(
    version="7.2.0",
    package="",
    commands=frozenset(),
    options={"sandbox": frozenset()},
    machines=(MachineType(name="pc-i440fx-7.2", alias="pc", deprecated=False, is_default=True, cpu_max=255),),
    types=frozenset(),
    cpu_models=frozenset(),
    block_drivers=frozenset(),
    aio=frozenset(),
    kvm_present=False,
    kvm_enabled=False,
)
KVM: Final = load("kvm")
SETTINGS: Final = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def options_of(instance: hvcore.Instance, level: Level = Level.STRICT, kvm: LoadedDriver = KVM) -> Read:
    spec = kvm.driver.plan(instance, kvm.check(instance))
    arguments = render(kvm.hooks, spec, FACTS, symbols(spec, level, Accel("tcg", "")))
    return read(tuple(token for argument in arguments for token in argument.tokens))


AWKWARD: Final = st.sampled_from(
    [",", ",,", "=", ",id=x", " ", "\n", '"', "'", "\\", ":", "%", "-", "#", "ä", "\udcff"]
)
COMPONENTS: Final = st.one_of(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20),
    st.lists(AWKWARD, min_size=1, max_size=6).map("".join),
    st.text("ab,=", min_size=1, max_size=12),
).filter(lambda part: part not in {".", ".."} and len(part.encode("utf-8", "surrogateescape")) < 256)
PATHS: Final = st.lists(COMPONENTS, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
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
# For each parameter what is certainly right; whoever adds a parameter adds a row.
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
    "cdrom_image_path": PATHS,
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


def from_the_type(param: hvcore.Param) -> st.SearchStrategy[Any]:
    """Right values of a parameter that has no row of its own."""
    schema = param.type.json_schema()
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("type") == "boolean":
        return st.booleans()
    if schema.get("type") == "integer":
        return st.integers(schema["minimum"], schema["maximum"])
    if param.type.node_check is not None:
        return PATHS
    return st.sampled_from([value for value in (param.example, param.default) if value is not None])


RIGHT.update({key: from_the_type(param) for key, param in KVM.schema.params.items() if key not in RIGHT})


def instances(params: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "name": NAMES,
            "driver": st.just("kvm"),
            "memory_mib": st.integers(1, 1 << 20),
            "vcpus": st.sampled_from([1, 2]),
            "disks": st.lists(
                st.fixed_dictionaries({"path": PATHS}, optional={"read_only": st.booleans()}), max_size=3
            ),
            "nics": st.lists(st.sampled_from([{}, {"mode": "user"}, {"mode": "bridged", "link": "br0"}]), max_size=2),
            "params": params,
        }
    )


@SETTINGS
@given(instances(st.fixed_dictionaries({}, optional=RIGHT)), st.sampled_from([Level.STRICT, Level.OFF]))
def test_whatever_is_accepted_is_read_back_as_it_was_given(data: dict[str, Any], level: Level) -> None:
    instance, problems = hvcore.model.instance.read_instance(data)  # type: ignore[attr-defined]
    assert instance is not None, problems
    try:
        options = options_of(instance, level)
    except ParamsError:
        return  # rules between parameters; that they are right is for the golden files
    params = KVM.check(instance)
    assert only(options, "-name") == {"guest": data["name"], "debug-threads": "on"}
    assert only(options, "-m") == {"size": f"{data['memory_mib']}M"}
    images = sum(params[key] is not None for key in ("cdrom_image_path", "cdrom2_image_path", "floppy_image_path"))
    images += 2 * (params["boot_firmware"] == "uefi")
    assert len(devices(options, "raw")) == len(data["disks"]) + images
    assert len([1 for option, _ in options if option == "-netdev"]) == len(data["nics"])
    if params["kernel_path"]:
        assert only(options, "-kernel") == (params["kernel_path"] if level is Level.OFF else "/kernel")
        assert params["kernel_args"] in only(options, "-append")
    if params["initrd_path"]:
        assert only(options, "-initrd") == (params["initrd_path"] if level is Level.OFF else "/initrd")
    assert {option for option, _ in options} <= NONE | PLAIN | set(KEYS)
    assert [1 for option, _ in options if option == "-sandbox"] == ([1] if level is not Level.OFF else [])


@SETTINGS
@given(st.data())
def test_whatever_is_given_ends_in_options_or_in_problems(data: st.DataObject) -> None:
    wanted = data.draw(
        instances(st.fixed_dictionaries({}, optional={key: st.one_of(right, JUNK) for key, right in RIGHT.items()}))
    )
    for key in data.draw(st.lists(st.sampled_from([*wanted, "extra"]), max_size=2)):
        wanted[key] = data.draw(JUNK)
    instance, problems = hvcore.model.instance.read_instance(wanted)  # type: ignore[attr-defined]
    if instance is None:
        assert problems
        assert all(str(problem) for problem in problems)
        return
    with contextlib.suppress(ParamsError):
        options_of(instance)


@SETTINGS
@given(st.lists(st.sampled_from(sorted(RIGHT)), min_size=2, max_size=6, unique=True))
def test_all_problems_come_at_once(keys: list[str]) -> None:
    instance = hvcore.Instance(name="web1", driver="kvm", params={key: [b"wrong"] for key in keys})
    with pytest.raises(ParamsError) as caught:
        KVM.check(instance)
    assert {problem.path for problem in caught.value.problems} == {f"params.{key}" for key in keys}


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
