"""The instances that the node should have, and what differs from those that run."""
