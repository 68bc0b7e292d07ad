"""Record what a QEMU binary can do, for the golden files: ``python record_facts.py /usr/bin/qemu-system-x86_64``.

Writes data/facts-MAJOR.MINOR.json beside itself, and says so.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from hv_kvm.probe import probe


def main() -> None:
    facts = probe(sys.argv[1], cache_dir=None)
    version = ".".join(facts.version.split(".")[:2])
    # What the node is, not the binary.
    body = {**facts.to_json(), "kvm": [False, False]}
    path = Path(__file__).with_name("data") / f"facts-{version}.json"
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in body.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    sys.stdout.write(f"{path}: {facts.version}, {len(facts.types)} types\n")


if __name__ == "__main__":
    main()
