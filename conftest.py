"""What all tests take for granted of the process that they run in."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# `./dev test &` in a script, and nohup, hand on ignored signals, and each program that a test starts would have them
# ignored as well: those that a test interrupts would go on.
for _signum, _default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_signum) is signal.SIG_IGN:
        signal.signal(_signum, _default)

# How long an example takes says how busy the machine is, and nothing of the code. `./dev test --slow` generates more
# examples: --hypothesis-profile=many.
for _profile, _examples in (("few", 30), ("many", 200)):
    settings.register_profile(
        _profile, deadline=None, max_examples=_examples, suppress_health_check=[HealthCheck.too_slow]
    )
settings.load_profile("few")
