"""What an instance needs of the node: mounts, files of its root, users, a network."""
