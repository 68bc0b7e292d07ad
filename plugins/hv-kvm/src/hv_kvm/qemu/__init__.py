"""The QEMU of this node: which one, what it can do, whether KVM works with it."""
