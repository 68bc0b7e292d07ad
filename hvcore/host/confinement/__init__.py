"""What keeps a process in: chosen as values, done by bubblewrap, proved by reading it back."""
