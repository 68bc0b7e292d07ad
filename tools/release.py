"""Write what later releases are compared with: ``python tools/release.py``, after `CHANGELOG.md` has the release.

`tests/repo/released/DRIVER-VERSION.json` is the JSON Schema of each driver's parameters, and
`tests/repo/released/records/VERSION.json` a record as this release writes it. `tests/repo/test_release.py` holds both.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Final

import hvcore

__all__ = ["left", "main", "newest_record"]

TOP: Final = Path(__file__).resolve().parents[1]
RELEASED: Final = TOP / "tests/repo/released"


def left(top: Path) -> list[str]:
    """The fragments that are not in the changelog yet."""
    found = [path for path in top.glob("changelog.d/**/*.md") if path.name != "README.md"]
    return sorted(path.relative_to(top).as_posix() for path in found)


def newest_record(folder: Path) -> Path:
    """The record of the newest version among those that are read for ever; record-v10 is newer than record-v9."""
    return max(folder.glob("record-v*.json"), key=lambda path: int(re.sub(r"\D", "", path.stem)))


def main(top: Path = TOP, released: Path = RELEASED) -> int:
    """Write the files of the version in `hvcore/_version.py`; the exit code."""
    fragments = left(top)
    if fragments:
        sys.stderr.write(
            f"release: not in CHANGELOG.md yet: {', '.join(fragments)}; move them there, then remove them\n"
        )
        return 1
    for driver in sorted(path.parent.name.removeprefix("hv-") for path in top.glob("plugins/*/pyproject.toml")):
        with tempfile.TemporaryDirectory() as run_dir:
            schema = hvcore.Node(run_dir).driver(driver).json_schema()
        path = released / f"{driver}-{hvcore.__version__}.json"
        path.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (released / "records").mkdir(exist_ok=True)
    record = newest_record(top / "tests/core/data")
    (released / "records" / f"{hvcore.__version__}.json").write_bytes(record.read_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
