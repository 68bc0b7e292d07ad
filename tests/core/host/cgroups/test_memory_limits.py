"""The memory limit that a caller's control groups set: its own group, those above it, or that of a container."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvcore.host.cgroups.group_files import ControlFiles
from hvcore.host.cgroups.hierarchy import ControlGroups
from hvcore.host.cgroups.memory_limits import memory_limits

GIB = 1 << 30


class Kernel(ControlFiles):
    """Files by path."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files

    def read(self, path: str) -> str:
        return self.files.get(path, "")


def v2(root: str = "/") -> bytes:
    return f"31 23 0:28 {root} /cg rw,relatime shared:9 - cgroup2 cgroup2 rw\n".encode()


def v1(root: str = "/") -> bytes:
    return (
        f"32 31 0:29 {root} /cg/cpu rw - cgroup cgroup rw,cpu\n"
        f"35 31 0:32 {root} /cg/memory rw,relatime - cgroup cgroup rw,memory\n"
    ).encode()


V2 = {"/cg/memory.max": "max\n", "/cg/a.slice/memory.max": f"{2 * GIB}\n", "/cg/a.slice/b/memory.max": "max\n"}
V1 = {
    "/cg/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "/cg/memory/a/memory.limit_in_bytes": f"{GIB}\n",
    "/cg/memory/a/b/memory.limit_in_bytes": f"{2 * GIB}\n",
}


@pytest.mark.parametrize(
    ("mounts", "groups", "files", "found"),
    [
        (v2(), "0::/a.slice/b\n", V2, [("/cg/a.slice/memory.max", 2 * GIB)]),
        (v2(), "0::/c\n", V2, []),
        (v2("/x"), "0::/x/a.slice/b\n", V2, [("/cg/a.slice/memory.max", 2 * GIB)]),
        (v2("/x"), "0::/xa/a.slice\n", V2, []),
        (v2("/../.."), "0::/\n", {"/cg/memory.max": f"{GIB}\n"}, [("/cg/memory.max", GIB)]),
        (v2(), "0::/../other\n", V2, []),
        (
            v1(),
            "4:memory:/a/b\n1:cpu:/\n0::/\n",
            V1,
            [("/cg/memory/a/memory.limit_in_bytes", GIB), ("/cg/memory/a/b/memory.limit_in_bytes", 2 * GIB)],
        ),
        (v1(), "4:hugetlb,memory:/a\n", V1, [("/cg/memory/a/memory.limit_in_bytes", GIB)]),
        (v1() + v2(), "4:memory:/\n0::/a.slice\n", V1 | V2, [("/cg/a.slice/memory.max", 2 * GIB)]),
        (b"", "0::/a\n", V2, []),
        (v2(), "", V2, []),
    ],
)
def test_each_limit_above_the_caller(
    mounts: bytes, groups: str, files: dict[str, str], found: list[tuple[str, int]]
) -> None:
    assert list(memory_limits((), Kernel(files), mounts, groups)) == found


def test_where_an_instance_leaves_its_callers_group_only_the_top_counts() -> None:
    files = V2 | {"/cg/memory.max": f"{8 * GIB}\n"}
    assert list(memory_limits(("/cg",), Kernel(files), v2(), "0::/a.slice/b\n")) == [("/cg/memory.max", 8 * GIB)]
    assert list(memory_limits(("/cg/memory",), Kernel(V1), v1(), "4:memory:/a/b\n")) == []


def test_the_least_limit_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"/proc/self/cgroup": "4:memory:/a/b\n", "/proc/self/mountinfo": v1().decode()}
    monkeypatch.setattr(Path, "read_text", lambda self, *_, **__: texts[str(self)])
    monkeypatch.setattr(Path, "read_bytes", lambda self: texts[str(self)].encode())
    assert ControlGroups(files=Kernel(V1)).memory_limit() == ("/cg/memory/a/memory.limit_in_bytes", GIB)
    here = ControlGroups(by_controller={"memory": "/cg/memory"}, files=Kernel(V1))
    assert here.memory_limit() is None
    # A process that runs is where it is: its own groups count, and not those of the caller.
    other = ControlGroups(
        by_controller={"memory": "/cg/memory"}, files=Kernel({**V1, "/proc/7/cgroup": "4:memory:/a\n"})
    )
    assert other.memory_limit(7) == ("/cg/memory/a/memory.limit_in_bytes", GIB)


def test_a_limit_that_a_container_hides_is_not_known() -> None:
    class Hidden(Kernel):
        def read(self, path: str) -> str:
            if path == "/cg/memory.max":
                raise PermissionError(path)
            return super().read(path)

    assert list(memory_limits((), Hidden(V2), v2(), "0::/a.slice\n")) == [("/cg/a.slice/memory.max", 2 * GIB)]
