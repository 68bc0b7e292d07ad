"""Devices of a running instance: attach and detach, media, the size of a disk."""
