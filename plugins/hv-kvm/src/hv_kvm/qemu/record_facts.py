"""``python -m hv_kvm.qemu.record_facts QEMU``: record the features of a QEMU binary, for tests on machines without it.

The file has the facts of a probe in the JSON of `hv_kvm.machine.facts`, one kind of fact on each line, so that two files
can be compared. Whether KVM is there is left out: it depends on the node.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from hv_kvm.machine.facts import Facts
from hv_kvm.qemu.probe import ProbeError, probe

__all__ = ["main", "recording"]

_EPILOG: Final = """\
The golden files hold for every QEMU that is recorded in plugins/hv-kvm/tests/data. To add one:

  python -m hv_kvm.qemu.record_facts /path/to/qemu-system-x86_64 --to plugins/hv-kvm/tests/data
  pytest --golden-update plugins/hv-kvm/tests/test_golden.py

and review the changes."""


def recording(facts: Facts) -> str:
    """The facts as the text of a file that `Facts.from_json` reads."""
    body = replace(facts, kvm_present=False, kvm_enabled=False).to_json()
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in body.items()) + "\n}\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the command. The exit status: 0 recorded, 1 no usable QEMU or no file written, 2 bad usage."""
    parser = argparse.ArgumentParser(
        prog="python -m hv_kvm.qemu.record_facts",
        description="Probe a QEMU binary and write its features to DIR/facts-MAJOR.MINOR.json.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("qemu", metavar="QEMU", help="Path of a qemu-system-x86_64.")
    parser.add_argument("--to", metavar="DIR", type=Path, help="Write the file to this directory. Default: print it.")
    options = parser.parse_args(arguments)
    try:
        facts = probe(options.qemu, cache_dir=None)
        if options.to is None:
            sys.stdout.write(recording(facts))
            return 0
        path = options.to / f"facts-{facts.release}.json"
        path.write_text(recording(facts), encoding="utf-8")
    except ProbeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{error.filename}: cannot be written ({error.strerror}); name an existing directory\n")
        return 1
    sys.stdout.write(f"{path}: QEMU {facts.version}, {len(facts.types)} types, {len(facts.machines)} machines\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
