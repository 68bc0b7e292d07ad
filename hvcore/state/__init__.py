"""What is kept of an instance, and what changes it while an operation is at work."""
