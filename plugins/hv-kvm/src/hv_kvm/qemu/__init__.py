"""The QEMU of this node: its features, and whether KVM works with it."""
