"""What a running instance may use of the node."""
