"""Files that people write: an instance, and this node's own values and profiles."""
