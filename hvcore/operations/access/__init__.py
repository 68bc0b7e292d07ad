"""What a person reaches of an instance: its console, its log, its display, its buttons and keys."""
