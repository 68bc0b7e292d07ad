"""Adapters to the outside: processes, files, locks, mounts, disks. Everything that is impure and not a driver's."""
