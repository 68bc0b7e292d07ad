"""The machine as values: its spec, what this QEMU can do, and the options that make it. Nothing of the node."""
