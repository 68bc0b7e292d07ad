"""The KVM driver of hvcore: instances are QEMU guests."""
