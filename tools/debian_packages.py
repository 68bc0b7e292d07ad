"""Write Debian packages of wheels: ``python tools/debian_packages.py --work DIR --out DIR WHEEL...``.

The package hvcore is a virtual environment in /usr/lib/hvcore: hvcore, the command and all libraries that they need, as
wheels put in here, so an installation needs no package index. Every other wheel is a driver or an extension. Its package
adds files to that environment and depends on hvcore. All wheels are pure Python, and the environment has one directory of
modules for every Python of Debian, so the packages fit each release and outlast an upgrade of the node's Python.
"""

from __future__ import annotations

import argparse
import configparser
import email.message
import email.parser
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

__all__ = ["Wheel", "debian_version", "main", "relations"]

HOME: Final = "usr/lib/hvcore"
MODULES: Final = f"{HOME}/lib/python3/site-packages"
PYTHONS: Final = range(11, 15)  # 3.11 to 3.14; each finds the modules by a link
DRIVERS: Final = "/usr/local/lib/hvcore/drivers"  # for operators, beside what dpkg installs
SCRIPTS: Final = Path(__file__).with_name("debian")
TOP: Final = Path(__file__).resolve().parents[1]

# What our wheels need of Debian. A wheel of another author gets hvcore only.
DEPENDS: Final[Mapping[str, str]] = {
    "hvcore": f"python3 (>= 3.{PYTHONS[0]}), python3 (<< 3.{PYTHONS[-1] + 1}), bubblewrap, util-linux",
    "hv-kvm": "qemu-system-x86",
    "hv-chroot": "mount",
}
OTHERS: Final[Mapping[str, str]] = {
    "hvcore": "Suggests: hv-kvm, hv-chroot\n",
    "hv-kvm": "Recommends: nftables, openssl, ovmf, passt, qemu-utils\nSuggests: openvswitch-switch, qemu-block-extra, swtpm\n",
    "hv-chroot": "Suggests: squashfs-tools\n",
}


@dataclass(frozen=True)
class Wheel:
    """A wheel: its file, and what its metadata say."""

    path: Path
    metadata: email.message.Message
    drivers: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Wheel:
        """Raises SystemExit for a wheel that is for one platform only, since the package would be for it too."""
        if not path.name.endswith("-none-any.whl"):
            raise SystemExit(
                f"{path.name}: is not pure Python; its Debian package would fit one platform and one Python"
            )
        with zipfile.ZipFile(path) as wheel:
            texts = {name.partition(".dist-info/")[2]: name for name in wheel.namelist() if ".dist-info/" in name}
            metadata = email.parser.BytesParser().parsebytes(wheel.read(texts["METADATA"]))
            points = configparser.ConfigParser(delimiters=("=",), strict=False, interpolation=None)
            if "entry_points.txt" in texts:
                points.read_string(wheel.read(texts["entry_points.txt"]).decode())
        drivers = points.options("hvcore.drivers") if points.has_section("hvcore.drivers") else []
        return cls(path, metadata, tuple(drivers))

    @property
    def package(self) -> str:
        """The name of the Debian package: that of the distribution, as Debian spells it."""
        return re.sub(r"[-_.]+", "-", self.metadata["Name"]).lower()

    @property
    def requirements(self) -> list[Requirement]:
        """What the wheel requires on every node, without what its extras and markers add."""
        lines = self.metadata.get_all("Requires-Dist") or []
        return [one for one in map(Requirement, lines) if one.marker is None]

    @property
    def version(self) -> str:
        """The version of the Debian package."""
        return debian_version(self.metadata["Version"])


def debian_version(version: str) -> str:
    """A version of Python's packages as Debian sorts it: 1.0rc1 and 1.0.dev1 come before 1.0."""
    return re.sub(r"\.?(a|b|rc|dev)(\d)", r"~\1\2", version).replace("!", ":")


def relations(requirement: Requirement) -> str:
    """A requirement on hvcore as relations of Debian packages, such as ``hvcore (>= 0.1), hvcore (<< 0.2)``."""
    words = {">=": ">=", "<=": "<=", ">": ">>", "<": "<<", "==": "=", "~=": ">="}
    known = [one for one in requirement.specifier if one.operator in words and not one.version.endswith(".*")]
    found = sorted(f"hvcore ({words[one.operator]} {debian_version(one.version)})" for one in known)
    return ", ".join(reversed(found)) or "hvcore"


def main(arguments: Sequence[str]) -> int:
    """Write one package for each wheel given; the exit code."""
    parser = argparse.ArgumentParser(
        prog="debian_packages.py", description="Write Debian packages of hvcore and of drivers."
    )
    parser.add_argument("--work", type=Path, required=True, help="directory for the trees of files; it is emptied")
    parser.add_argument("--out", type=Path, required=True, help="directory of the packages")
    parser.add_argument("wheels", type=Path, nargs="+")
    given = parser.parse_args(arguments)
    wheels = [Wheel.read(path.resolve()) for path in given.wheels]
    core = next((wheel for wheel in wheels if wheel.package == "hvcore"), None)
    if core is None:
        parser.error("no wheel of hvcore")
    shutil.rmtree(given.work, ignore_errors=True)
    closures: dict[str, set[str]] = {}
    for wheel in [core, *(wheel for wheel in wheels if wheel is not core)]:
        others = [] if wheel is core else ["hvcore", *needed(wheel, closures)]
        found = with_libraries(wheels, wheel, given.work / "wheels" / wheel.package)
        closures[wheel.package] = {path.name for path in found}
        there = set().union(*(closures[name] for name in others))
        tree = given.work / wheel.package
        fill(tree, wheel, [Wheel.read(path) for path in found if path.name not in there])
        name = f"{wheel.package}_{wheel.version.rpartition(':')[2]}_all.deb"
        run("dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(tree), str(given.out / name))
    return 0


def needed(wheel: Wheel, known: Iterable[str]) -> list[str]:
    """The drivers that a wheel requires beside hvcore, as an extension of hv-kvm does.

    Raises SystemExit for one whose wheel was not given before: an index may have another project of that name.
    """
    names = [re.sub(r"[-_.]+", "-", one.name).lower() for one in wheel.requirements]
    unknown = [name for name in names if name.startswith("hv-") and name not in known]
    if unknown:
        raise SystemExit(f"{wheel.path.name}: requires {unknown[0]}; give the wheel of {unknown[0]} before this one")
    return [name for name in names if name in known and name != "hvcore"]


def fill(tree: Path, wheel: Wheel, installed: Sequence[Wheel]) -> None:
    """Make the files of the package of one wheel, which brings the wheels in ``installed``."""
    lay_out(tree, installed)
    if wheel.package == "hvcore":
        environment(tree)
        shell_files(tree)
        units(tree)
    documents(tree, wheel, installed)
    control(tree, wheel)


def with_libraries(given: Sequence[Wheel], wheel: Wheel, place: Path) -> list[Path]:
    """A wheel and the wheels of all that it requires, found as pip is set up on this machine.

    Those that were given are taken from there: an index may have another project of the name of a driver.
    """
    write(place / "constraints.txt", "".join(f"{one.package} @ {one.path.as_uri()}\n" for one in given).encode())
    core = next(one for one in given if one.package == "hvcore")
    wanted = [f"hvcore[cli] @ {core.path.as_uri()}", *([] if wheel is core else [str(wheel.path)])]
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--constraint", str(place / "constraints.txt"))
    run(*pip, "--wheel-dir", str(place), *wanted)
    return sorted(place.glob("*.whl"))


def lay_out(tree: Path, wheels: Sequence[Wheel]) -> None:
    """Unpack wheels as pip would: modules and metadata, manual pages where Debian has them."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel.path) as archive:
            for name in archive.namelist():
                if name.endswith(("/", ".dist-info/RECORD", ".dist-info/direct_url.json")):
                    continue
                target = tree / place_of(name, wheel)
                if target.exists():
                    raise SystemExit(f"{wheel.path.name}: {target.relative_to(tree)} comes with another wheel too")
                write(target, archive.read(name))
        info = next((tree / MODULES).glob(f"{wheel.path.name.split('-')[0]}-*.dist-info"))
        write(info / "INSTALLER", b"dpkg\n")


def place_of(name: str, wheel: Wheel) -> str:
    """Where a file of a wheel is in the package. Raises SystemExit for scripts and headers, which have no place here."""
    if name.startswith("/") or ".." in name.split("/"):
        raise SystemExit(f"{wheel.path.name}: {name!r} leads out of the package")
    folder, _, rest = name.partition(".data/")
    if not rest:
        return f"{MODULES}/{name}"
    scheme, _, path = rest.partition("/")
    if scheme in {"purelib", "platlib"}:
        return f"{MODULES}/{path}"
    if scheme == "data":
        return f"usr/{path}" if path.startswith("share/man/") else f"{HOME}/{path}"
    raise SystemExit(f"{wheel.path.name}: {folder}.data/{scheme} has no place in a package; only modules and data have")


def environment(tree: Path) -> None:
    """The virtual environment around the modules, as Python's venv makes it, and the command."""
    write(tree / HOME / "pyvenv.cfg", b"home = /usr/bin\ninclude-system-site-packages = false\n")
    link(tree / HOME / "bin/python3", "/usr/bin/python3")
    link(tree / HOME / "bin/python", "python3")
    for minor in PYTHONS:
        link(tree / HOME / f"lib/python3.{minor}", "python3")
    write(tree / MODULES / "hvcore-drivers.pth", f"{DRIVERS}\n".encode())
    program = f"#!/{HOME}/bin/python3\nimport sys\n\nfrom hv_command import main\n\nsys.exit(main())\n"
    write(tree / HOME / "bin/hv", program.encode(), mode=0o755)
    link(tree / "usr/bin/hv", f"../{HOME.removeprefix('usr/')}/bin/hv")
    write(tree / "usr/share/python3/runtime.d/hvcore.rtupdate", (SCRIPTS / "rtupdate").read_bytes(), mode=0o755)


def shell_files(tree: Path) -> None:
    """Completion for three shells, and the manual page packed as Debian wants it."""
    files = {
        "bash": "bash-completion/completions/hv",
        "zsh": "zsh/vendor-completions/_hv",
        "fish": "fish/vendor_completions.d/hv.fish",
    }
    for shell, path in files.items():
        command = [sys.executable, "-c", "import hv_command; hv_command.main()", "completion", shell]
        write(tree / "usr/share" / path, subprocess.run(command, check=True, capture_output=True).stdout)
    for page in (tree / "usr/share/man").rglob("*.1"):
        write(page.with_name(f"{page.name}.gz"), gzip.compress(page.read_bytes(), mtime=0))
        page.unlink()


def units(tree: Path) -> None:
    """The units of systemd, as `hv install-units` writes them."""
    command = [sys.executable, "-c", "import hv_command; hv_command.main()", "install-units", "--hv", "/usr/bin/hv"]
    command += ["--root", str(tree), "--directory", "/usr/lib/systemd/system"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for path in (tree / "usr/lib").rglob("systemd"):
        for folder in (path, path / "system"):
            folder.chmod(0o755)


def documents(tree: Path, wheel: Wheel, installed: Sequence[Wheel]) -> None:
    """Copyright of all that is inside, and the changes."""
    lines = [
        f"{wheel.metadata['Name']} {wheel.metadata['Version']}, by {wheel.metadata['Author'] or 'its authors'}.",
        "",
    ]
    lines += ["This package contains, each with its licence in its .dist-info below /usr/lib/hvcore:", ""]
    for one in installed:
        licence = one.metadata["License-Expression"] or one.metadata["License"] or "see its .dist-info"
        lines.append(f"- {one.metadata['Name']} {one.metadata['Version']}: {licence.splitlines()[0]}")
    place = tree / "usr/share/doc" / wheel.package
    write(place / "copyright", ("\n".join(lines) + "\n").encode())
    if wheel.package in DEPENDS or wheel.package == "hv-fake":
        write(place / "changelog.gz", gzip.compress((TOP / "CHANGELOG.md").read_bytes(), mtime=0))


def control(tree: Path, wheel: Wheel) -> None:
    """The directory DEBIAN: what dpkg wants to know, and the scripts that it runs."""
    files = [path for path in sorted(tree.rglob("*")) if path.is_file() and not path.is_symlink()]
    sums = [f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}\n" for path in files]  # noqa: S324 - dpkg's format
    text = (
        f"Package: {wheel.package}\nVersion: {wheel.version}\nArchitecture: all\nSection: admin\nPriority: optional\n"
        f"Maintainer: {wheel.metadata['Maintainer-Email'] or 'the hvcore contributors <hvcore@localhost>'}\n"
        f"Installed-Size: {sum(path.stat().st_size for path in files) // 1024}\nDepends: {depends(wheel)}\n"
        f"{OTHERS.get(wheel.package, '')}Description: {wheel.metadata['Summary']}\n"
    )
    place = tree / "DEBIAN"
    write(place / "control", text.encode())
    write(place / "md5sums", "".join(sums).encode())
    for name in ("postinst", "prerm", *(["postrm"] if wheel.package == "hvcore" else [])):
        script = (SCRIPTS / name).read_text(encoding="utf-8")
        script = script.replace("@PACKAGE@", wheel.package).replace("@DRIVERS@", " ".join(wheel.drivers))
        if name == "prerm" and wheel.package != "hvcore" and not wheel.drivers:
            # An extension runs no instance.
            script = re.sub(r"^if .*?^fi\n", "", script, flags=re.MULTILINE | re.DOTALL)
        write(place / name, script.encode(), mode=0o755)


def depends(wheel: Wheel) -> str:
    """What the package of a wheel needs of Debian: hvcore in the right version, other drivers, programs."""
    found = [DEPENDS[wheel.package]] if wheel.package in DEPENDS else []
    found += [one.name for one in wheel.requirements if one.name.startswith("hv-")]
    return ", ".join([relations(one) for one in wheel.requirements if one.name == "hvcore"] + found) or "hvcore"


def write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file and its directories, regardless of the caller's umask."""
    for folder in reversed([folder for folder in path.parents if not folder.exists()]):
        folder.mkdir()
        folder.chmod(0o755)
    path.write_bytes(data)
    path.chmod(mode)


def link(path: Path, target: str) -> None:
    """Make a symbolic link and its directories."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    path.symlink_to(target)


def run(*command: str) -> None:
    """Run a command. Raises SystemExit if it fails; its output is on the terminal."""
    if subprocess.run(command, env={**os.environ, "LC_ALL": "C.UTF-8"}, check=False).returncode:
        raise SystemExit(f"failed: {' '.join(command)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
