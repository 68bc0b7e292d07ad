"""``python -m hv_kvm.qemu.record_facts QEMU``: write down what a QEMU binary can do, for tests on machines that do not have it.

The file is what a probe finds, in the JSON of `hv_kvm.machine.facts`, one line to a kind of fact so that two of them can be
compared, and without what belongs to the node: whether KVM is there.
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
The golden files hold for every QEMU that is recorded in plugins/hv-kvm/tests/data. For one more:

  python -m hv_kvm.qemu.record_facts /path/to/qemu-system-x86_64 --to plugins/hv-kvm/tests/data
  pytest --golden-update plugins/hv-kvm/tests/test_golden.py

and review what that changes."""


def recording(facts: Facts) -> str:
    """The facts as the text of a file that `Facts.from_json` reads."""
    body = replace(facts, kvm_present=False, kvm_enabled=False).to_json()
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in body.items()) + "\n}\n"


def main(arguments: list[str] | None = None) -> int:
    """Record what the command line names. The exit code: 0 done, 1 no usable QEMU or nowhere to write, 2 bad usage."""
    parser = argparse.ArgumentParser(
        prog="python -m hv_kvm.qemu.record_facts",
        description="Ask a QEMU binary what it can do, and write the answer to DIR/facts-MAJOR.MINOR.json.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("qemu", metavar="QEMU", help="the path of a qemu-system-x86_64")
    parser.add_argument("--to", metavar="DIR", type=Path, help="where to write it (default: print it)")
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
        sys.stderr.write(f"{error.filename}: cannot be written ({error.strerror}); name a directory that is there\n")
        return 1
    sys.stdout.write(f"{path}: QEMU {facts.version}, {len(facts.types)} types, {len(facts.machines)} machines\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
