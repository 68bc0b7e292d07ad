"""Check the model of migration: ``PYTHONPATH=tools python -m migration_model [--slow]``."""

from __future__ import annotations

import sys
import time

from migration_model.check import check
from migration_model.configurations import LARGE, SMALL

failed = 0
for configuration in (*SMALL, *(LARGE if "--slow" in sys.argv[1:] else ())):
    began = time.monotonic()
    found = check(configuration, optimize=configuration in LARGE)
    failed += found.failed is not None
    words = " ".join(configuration.switches)
    sys.stdout.write(f"{found.failed or 'holds'}: {found.states} states, {time.monotonic() - began:.1f} s, {words}\n")
sys.exit(failed > 0)
