"""The events of instances, as they happen."""
