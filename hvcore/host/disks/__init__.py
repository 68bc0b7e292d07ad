"""What a path to a disk really is, and who has it."""
