"""Control groups of version 1 and 2: where they are, and one of an instance."""
