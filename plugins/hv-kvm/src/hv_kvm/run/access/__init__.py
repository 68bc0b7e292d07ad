"""What a person reaches of a guest: its serial console, its display, its buttons and keys."""
