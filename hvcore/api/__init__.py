"""The API for host applications: a node, its drivers, and the examination of an installation."""
