"""What a running guest may use of the node: memory, processors, CPUs."""
