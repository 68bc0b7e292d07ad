"""``hv node``, ``top`` and ``metrics``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

import hvcore
from hvcore.cli.node.exposition import exposition
from hvcore.cli.node.rates import Rates, rates_between
from hvcore.model.node_facts import NodeFacts
from hvcore.model.usage import DiskUse, InstanceUsage, NicUse

Hv = Callable[..., Result]


@pytest.fixture
def up(hv: Hv, instance_file: Callable[..., str]) -> Hv:
    """``hv``, with a running instance web1."""
    assert hv("start", instance_file()).exit_code == 0
    return hv


def test_the_node_shows_its_memory_processors_and_drivers(up: Hv) -> None:
    text = up("node").stdout
    assert re.search(r"^memory +\d+ MiB, \d+ MiB free$", text, re.MULTILINE)
    assert re.search(r"^processors +\d+ in \d+ cores, \d+ socket", text, re.MULTILINE)
    assert re.search(r"^instances +1 run: 1 vcpus, 128 MiB", text, re.MULTILINE)
    assert re.search(r"^driver fake +hv-fake .*; can pause, console, exec", text, re.MULTILINE)
    facts = json.loads(up("node", "--json").stdout)
    assert (facts["instances"], facts["instances_memory_mib"], facts["hvcore"]) == (1, 128, hvcore.__version__)
    assert facts["memory_total_mib"] > facts["memory_free_mib"] > 0
    by_name = {driver["name"]: driver for driver in facts["drivers"]}
    assert by_name["fake"]["problem"] is None
    if by_name["kvm"]["problem"] is None:
        assert by_name["kvm"]["hypervisor"].startswith("QEMU ")
        assert "/usr/bin/qemu-system-x86_64" in by_name["kvm"]["files"]


def test_a_powercycle_has_to_be_meant_and_writes_to_the_kernel_only_then(up: Hv, tmp_path: Path) -> None:
    trigger = tmp_path / "sysrq-trigger"
    trigger.write_text("")
    refused = up("node", "powercycle", "--trigger", str(trigger))
    assert refused.exit_code == 2
    assert "1 running instance of this run directory would be cut off" in refused.stderr
    assert trigger.read_text() == ""
    done = up("node", "powercycle", "--yes-really", "--trigger", str(trigger))
    assert (done.exit_code, trigger.read_text()) == (0, "b")
    missing = up("node", "powercycle", "--yes-really", "--trigger", str(tmp_path / "none"))
    assert missing.exit_code == 1
    assert "the node cannot be restarted, got No such file or directory; run it as root" in missing.stderr
    assert up("node", "--yes-really").exit_code == 2


def test_a_fallback_is_run_only_if_the_kernel_refuses(tmp_path: Path) -> None:
    made, trigger = tmp_path / "made", tmp_path / "trigger"
    trigger.write_text("")
    hvcore.powercycle(str(trigger), fallback=("touch", str(made)))
    assert (trigger.read_text(), made.exists()) == ("b", False)
    hvcore.powercycle(str(tmp_path / "none"), fallback=("touch", str(made)))
    assert made.exists()
    with pytest.raises(hvcore.NodeError, match="and false failed"):
        hvcore.powercycle(str(tmp_path / "none"), fallback=("false",))


def test_top_once_shows_each_running_instance(up: Hv) -> None:
    head, row = up("top", "--once").stdout.splitlines()
    assert head.split() == [
        *("NAME", "STATE", "CPU%", "VCPUS", "MEMORY", "RESIDENT", "READ/s", "WRITE/s", "IN/s", "OUT/s", "PROBLEM")
    ]
    assert row.split()[:5] == ["web1", "running", "0.0", "1", "128"]
    (found,) = json.loads(up("top", "--json").stdout)
    assert (found["name"], found["problem"], found["memory_mib"]) == ("web1", None, 128)


def test_without_an_instance_top_says_so(hv: Hv) -> None:
    assert (hv("top", "--once").stdout, hv("top", "--json").stdout) == ("", "[]\n")


USAGE = InstanceUsage(
    name='a"b\\c',
    driver="kvm",
    state=hvcore.State.RUNNING,
    cpu_seconds=1.5,
    uptime_s=10.0,
    memory_mib=64,
    disks=(DiskUse(disk="disk0", reads=1, writes=2, read_bytes=512, written_bytes=1024),),
    nics=(NicUse(nic=0, interface="tap0", received_packets=1, received_bytes=100, sent_packets=2, sent_bytes=200),),
    guest={"free_mib": 3, "major_faults": 4},
)
NODE = NodeFacts(
    name="node1",
    hvcore="1.0",
    kernel="6.1",
    cpu_model="x",
    cpus=2,
    sockets=1,
    cores=2,
    load=(0.0, 0.0, 0.0),
    memory_total_mib=1024,
    memory_free_mib=512,
    swap_total_mib=0,
    swap_free_mib=0,
    instances=1,
    instances_vcpus=1,
    instances_memory_mib=64,
    instances_resident_mib=1,
)


def test_metrics_are_text_that_prometheus_reads(up: Hv) -> None:
    """Checked by the rules of the format: every metric has its help and its type before its lines, which have numbers."""
    info = hvcore.InstanceInfo(name=USAGE.name, driver="kvm", state=hvcore.State.RUNNING)
    for text in (up("metrics").stdout, exposition(NODE, [info], [USAGE])):
        announced, seen = "", set()
        for line in text.splitlines():
            if line.startswith("# HELP "):
                announced = line.split()[2]
                assert announced not in seen
                seen.add(announced)
            elif line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                assert (name, kind in {"gauge", "counter"}) == (announced, True)
                assert (kind == "counter") == name.endswith("_total")
            else:
                found = re.fullmatch(r'(\w+)(\{(?:\w+="(?:[^"\\\n]|\\["\\n])*",?)*\})? ([0-9.e+-]+)', line)
                assert found is not None, line
                assert found[1] == announced
                float(found[3])
        assert text.endswith("\n")


def test_metrics_are_read_by_the_parser_of_prometheus() -> None:
    parser = pytest.importorskip("prometheus_client.parser", reason="no prometheus_client: ./dev setup")
    info = hvcore.InstanceInfo(name=USAGE.name, driver="kvm", state=hvcore.State.RUNNING)
    families = {
        family.name: family for family in parser.text_string_to_metric_families(exposition(NODE, [info], [USAGE]))
    }
    (cpu,) = families["hvcore_instance_cpu_seconds"].samples
    assert (cpu.labels, cpu.value) == ({"instance": USAGE.name}, 1.5)


def test_a_figure_that_is_not_known_has_no_line() -> None:
    text = exposition(NODE, [], [USAGE])
    assert 'hvcore_instance_memory_bytes{instance="a\\"b\\\\c"} 67108864\n' in text
    assert "hvcore_instance_resident_memory_bytes" not in text
    assert 'figure="free"} 3145728\n' in text
    assert "major" not in text


def test_rates_are_those_between_two_measurements() -> None:
    (disk,), (nic,) = USAGE.disks, USAGE.nics
    later = replace(
        USAGE,
        cpu_seconds=2.5,
        uptime_s=12.0,
        disks=(replace(disk, read_bytes=1536), replace(disk, disk="disk1", written_bytes=1024)),
        nics=(replace(nic, sent_bytes=300),),
    )
    rates = rates_between(USAGE, later, 2.0)
    assert rates == Rates(50.0, (1536 + 512 - 512) / 2, 512.0, 0.0, 50.0)
    assert rates_between(None, later, 2.0) == Rates()
    assert rates_between(later, USAGE, 2.0) == Rates()  # it was started again
    assert rates_between(USAGE, replace(later, cpu_seconds=None, nics=()), 2.0)[3:] == (None, None)
