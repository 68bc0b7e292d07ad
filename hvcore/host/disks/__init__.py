"""The identity of disks, and claims on them."""
