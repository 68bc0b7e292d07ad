"""Driver process of hvcore."""
