"""What a host application holds: a node, a driver of it, and what is wrong with an installation."""
