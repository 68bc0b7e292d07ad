"""How a program is started: behind a gate, with limits, signals as a new process has them, confined, in its group."""
